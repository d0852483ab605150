# SPDX-License-Identifier: MIT
# SQLite in memory: inserts, an index, joins, aggregates, updates and deletes.
import sqlite3

ROWS = 6000
db = sqlite3.connect(":memory:")
db.execute("create table item (id integer primary key, name text, parent integer, price integer)")
db.executemany("insert into item values (?, ?, ?, ?)",
               ((i, f"item {i * 7919 % ROWS}", i // 3, i * 31 % 1009) for i in range(ROWS)))
db.execute("create index by_name on item (name)")
found = [
    db.execute("select count(*) from item a join item b on b.id = a.parent where b.price < a.price").fetchone(),
    db.execute("select price % 10, sum(price), max(name) from item group by 1 order by 2 desc").fetchall(),
    db.execute("select name from item where name like '%77%' order by name").fetchall(),
    [db.execute("select id from item where name = ?", (f"item {i}",)).fetchone() for i in range(0, ROWS, 3)],
]
db.execute("update item set price = price + (select count(*) from item c where c.parent = item.id and c.id > 5000)"
           " where id < 200")
db.execute("delete from item where name > 'item 5'")
found.append(db.execute("select count(*), sum(price) from item").fetchone())
assert [found[0], len(found[1]), len(found[2]), len(found[3]), found[4]] == [(3007,), 10, 114, 2000, (4446, 2243039)]
