// SPDX-License-Identifier: MIT
// Integer benchmarks: a mix in the manner of CoreMark and its parts, hashes, a sieve, division.

#include <string.h>

#include "gbench.h"

static u16 crc16_byte(u16 crc, u8 b)
{
    for (int i = 0; i < 8; i++) {
        int bit = (crc ^ b) & 1;
        crc >>= 1;
        b >>= 1;
        if (bit)
            crc ^= 0xa001;
    }
    return crc;
}

static u16 crc16_u32(u16 crc, u32 v)
{
    for (int i = 0; i < 4; i++)
        crc = crc16_byte(crc, (u8)(v >> (8 * i)));
    return crc;
}

/* A linked list: built, sorted by two keys, reversed, searched. */
struct node {
    struct node *next;
    int key, val;
};

#define LIST_N 256
static struct node list_pool[LIST_N];

static struct node *list_build(u32 seed)
{
    for (int i = 0; i < LIST_N; i++) {
        seed = seed * 1664525u + 1013904223u;
        list_pool[i].key = (int)(seed >> 20);
        list_pool[i].val = i;
        list_pool[i].next = i + 1 < LIST_N ? &list_pool[i + 1] : NULL;
    }
    return list_pool;
}

static struct node *list_reverse(struct node *l)
{
    struct node *r = NULL;
    while (l) {
        struct node *n = l->next;
        l->next = r;
        r = l;
        l = n;
    }
    return r;
}

static NOINLINE int cmp_key(const struct node *a, const struct node *b)
{
    return a->key - b->key;
}

static NOINLINE int cmp_val(const struct node *a, const struct node *b)
{
    return a->val - b->val;
}

static struct node *list_merge(struct node *a, struct node *b,
                               int (*cmp)(const struct node *, const struct node *))
{
    struct node head, *t = &head;
    while (a && b) {
        if (cmp(a, b) <= 0) {
            t->next = a;
            a = a->next;
        } else {
            t->next = b;
            b = b->next;
        }
        t = t->next;
    }
    t->next = a ? a : b;
    return head.next;
}

static struct node *list_sort(struct node *l, int n,
                              int (*cmp)(const struct node *, const struct node *))
{
    if (n <= 1)
        return l;
    struct node *m = l;
    for (int i = 0; i < n / 2 - 1; i++)
        m = m->next;
    struct node *r = m->next;
    m->next = NULL;
    return list_merge(list_sort(l, n / 2, cmp), list_sort(r, n - n / 2, cmp), cmp);
}

static NOINLINE u32 work_list(u32 seed)
{
    struct node *l = list_build(seed);
    u16 crc = 0;
    l = list_sort(l, LIST_N, cmp_key);
    for (struct node *p = l; p; p = p->next)
        crc = crc16_byte(crc, (u8)p->val);
    l = list_reverse(l);
    l = list_sort(l, LIST_N, cmp_val);
    int hits = 0;
    for (int k = 0; k < 16; k++)
        for (struct node *p = l; p; p = p->next)
            if (p->key == (int)(seed & 0xfff) + k) {
                hits++;
                break;
            }
    return crc16_u32(crc, (u32)hits);
}

/* A product of matrices of shorts. */
#define MAT_N 32
static NOINLINE u32 work_matrix(u32 seed)
{
    static short a[MAT_N][MAT_N], b[MAT_N][MAT_N];
    static int c[MAT_N][MAT_N];
    for (int i = 0; i < MAT_N; i++)
        for (int j = 0; j < MAT_N; j++) {
            seed = seed * 1103515245u + 12345u;
            a[i][j] = (short)(seed >> 16);
            b[j][i] = (short)(seed >> 8);
        }
    for (int i = 0; i < MAT_N; i++)
        for (int j = 0; j < MAT_N; j++) {
            u32 s = 0;
            for (int k = 0; k < MAT_N; k++)
                s += (u32)((int)a[i][k] * (int)b[k][j]);
            c[i][j] = (int)s;
        }
    u16 crc = 0;
    u32 acc = 0;
    for (int i = 0; i < MAT_N; i++)
        for (int j = 0; j < MAT_N; j++) {
            u32 v = (u32)c[i][j];
            acc += ((v >> 2) & 15) * ((v >> 5) & 127);
            if (v > acc)
                acc ^= v;
        }
    return crc16_u32(crc, acc);
}

/* Scanner for a comma separated line of numbers: a table-free state machine. */
enum state {
    S_START,
    S_SIGN,
    S_INT,
    S_DOT,
    S_FRAC,
    S_EXP,
    S_EXPSIGN,
    S_EXPDIG,
    S_HEX0,
    S_HEX,
    S_BAD,
    S_COUNT
};

static const char scan_text[] =
    "5012,+1234,-874,0x1f,.122,-.500,1.50e+09,9e,4e-12,abc,0xZZ,7,77,777,"
    "1.2.3,--5,+.5e6,-110.700,0x,0xdeadBEEF,12e5x,0,00,3.14159,2.71828e0,"
    "T0.3e-1F,-T.T++Tq,1T3.4e4z,34.0e-T^,-7.8e+6,+122.,+64.5E+1,8-,";

/* The state after `ch`, a character of a number. */
static enum state next_state(enum state s, char ch)
{
    int digit = ch >= '0' && ch <= '9';
    switch (s) {
    case S_START:
        return ch == '0'                ? S_HEX0
               : digit                  ? S_INT
               : ch == '+' || ch == '-' ? S_SIGN
               : ch == '.'              ? S_DOT
                                        : S_BAD;
    case S_SIGN:
        return digit ? S_INT : ch == '.' ? S_DOT : S_BAD;
    case S_HEX0:
        return ch == 'x' ? S_HEX : digit ? S_INT : ch == '.' ? S_FRAC : S_BAD;
    case S_HEX:
        return digit || (ch >= 'a' && ch <= 'f') || (ch >= 'A' && ch <= 'F') ? S_HEX : S_BAD;
    case S_INT:
        return ch == '.' ? S_FRAC : ch == 'e' || ch == 'E' ? S_EXP : digit ? S_INT : S_BAD;
    case S_DOT:
        return digit ? S_FRAC : S_BAD;
    case S_FRAC:
        return ch == 'e' || ch == 'E' ? S_EXP : digit ? S_FRAC : S_BAD;
    case S_EXP:
        return digit ? S_EXPDIG : ch == '+' || ch == '-' ? S_EXPSIGN : S_BAD;
    case S_EXPSIGN:
    case S_EXPDIG:
        return digit ? S_EXPDIG : S_BAD;
    default:
        return s;
    }
}

static NOINLINE u32 work_state(u32 seed)
{
    u32 finals[S_COUNT] = {0}, changes[S_COUNT] = {0};
    enum state s = S_START;
    char skip = "0123456789"[seed % 10];
    for (const char *p = scan_text; *p; p++) {
        char ch = *p == skip ? '1' : *p;
        if (ch == ',') {
            finals[s]++;
            s = S_START;
            continue;
        }
        enum state next = next_state(s, ch);
        if (next != s)
            changes[s]++;
        s = next;
    }
    u16 crc = 0;
    for (int i = 0; i < S_COUNT; i++) {
        crc = crc16_u32(crc, finals[i]);
        crc = crc16_u32(crc, changes[i]);
    }
    return crc;
}

static u64 b_list(u64 n)
{
    u64 s = 0;
    while (n--)
        s += work_list((u32)n);
    return s;
}

static u64 b_matrix(u64 n)
{
    u64 s = 0;
    while (n--)
        s += work_matrix((u32)n);
    return s;
}

static u64 b_state(u64 n)
{
    u64 s = 0;
    while (n--)
        s += work_state((u32)n);
    return s;
}

static u64 b_coremix(u64 n)
{
    u64 s = 0;
    while (n--) {
        u32 x = work_list((u32)n) ^ work_matrix((u32)n + 1);
        for (int i = 0; i < 4; i++)
            x += work_state(x + (u32)i);
        s += crc16_u32((u16)s, x);
    }
    return s;
}

static u32 crc_table[256];
static u8 buf64k[65536];

static void s_buf64k(void)
{
    rng_state = 88172645463325252ull;
    for (size_t i = 0; i < sizeof buf64k; i++)
        buf64k[i] = (u8)rng();
    for (u32 i = 0; i < 256; i++) {
        u32 c = i;
        for (int k = 0; k < 8; k++)
            c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
        crc_table[i] = c;
    }
}

static u64 b_crc32(u64 n)
{
    u32 c = 0xffffffffu;
    while (n--)
        for (size_t i = 0; i < sizeof buf64k; i++)
            c = crc_table[(c ^ buf64k[i]) & 255] ^ (c >> 8);
    return c ^ 0xffffffffu;
}

static const u32 sha_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static u32 ror(u32 x, int n)
{
    return x >> n | x << (32 - n);
}

static void sha256_block(u32 h[8], const u8 *p)
{
    u32 w[64], v[8];
    for (int i = 0; i < 16; i++)
        w[i] =
            (u32)p[4 * i] << 24 | (u32)p[4 * i + 1] << 16 | (u32)p[4 * i + 2] << 8 | p[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        u32 s0 = ror(w[i - 15], 7) ^ ror(w[i - 15], 18) ^ w[i - 15] >> 3;
        u32 s1 = ror(w[i - 2], 17) ^ ror(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    memcpy(v, h, sizeof v);
    for (int i = 0; i < 64; i++) {
        u32 t1 = v[7] + (ror(v[4], 6) ^ ror(v[4], 11) ^ ror(v[4], 25)) +
                 ((v[4] & v[5]) ^ (~v[4] & v[6])) + sha_k[i] + w[i];
        u32 t2 = (ror(v[0], 2) ^ ror(v[0], 13) ^ ror(v[0], 22)) +
                 ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
        v[7] = v[6];
        v[6] = v[5];
        v[5] = v[4];
        v[4] = v[3] + t1;
        v[3] = v[2];
        v[2] = v[1];
        v[1] = v[0];
        v[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++)
        h[i] += v[i];
}

static const u32 sha_init[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

static u64 b_sha256(u64 n)
{
    u32 h[8];
    memcpy(h, sha_init, sizeof h);
    while (n--)
        for (size_t i = 0; i < sizeof buf64k; i += 64)
            sha256_block(h, buf64k + i);
    return (u64)h[0] << 32 | h[7];
}

static u64 b_sieve(u64 n)
{
    static u8 composite[1 << 20];
    u64 sum = 0;
    while (n--) {
        memset(composite, 0, sizeof composite);
        for (u32 i = 2; i * i < sizeof composite; i++)
            if (!composite[i])
                for (u32 j = i * i; j < sizeof composite; j += i)
                    composite[j] = 1;
        u32 primes = 0;
        for (u32 i = 2; i < sizeof composite; i++)
            primes += !composite[i];
        sum += primes;
    }
    return sum;
}

static u64 b_div64(u64 n)
{
    u64 s = 0, a = 0x123456789abcdef;
    while (n--) {
        a = a * 6364136223846793005ull + 1442695040888963407ull;
        u64 d = (a >> 40) | 1;
        KEEP(d);
        s += a / d + a % d;
    }
    return s;
}

const struct bench integer_benches[] = {
    {"int.coremix", b_coremix, .per_iteration = 1, .check_n = 20, .check = 0xacd76},
    {"int.list", b_list, .per_iteration = 1, .check_n = 20, .check = 0x94681},
    {"int.matrix", b_matrix, .per_iteration = 1, .check_n = 20, .check = 0xc55a0},
    {"int.state", b_state, .per_iteration = 1, .check_n = 20, .check = 0xa23ea},
    {"int.crc32", b_crc32, s_buf64k, .kind = MBS, .per_iteration = 65536, .check_n = 3,
     .check = 0x11b53919},
    {"int.sha256", b_sha256, s_buf64k, .kind = MBS, .per_iteration = 65536, .check_n = 3,
     .check = 0x3db65ac0146af1d8},
    {"int.sieve1m", b_sieve, .per_iteration = 1, .check_n = 2, .check = 0x280d2},
    {"int.div64", b_div64, .per_iteration = 1, .check_n = 1000, .check = 0x3e800f139cc2e},
    {0},
};
