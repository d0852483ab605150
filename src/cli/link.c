// SPDX-License-Identifier: MIT
// Records between a channel and a vsock socket.
#include "cli/link.h"
#include "vmm/control.h"

#include <errno.h>
#include <stdlib.h>

#define RECORDS 64 /* received in one run */

struct link {
    struct channel *ch;
    struct uvirt_vsock_socket *listener, *conn;
    void (*wake)(void *opaque);
    void *opaque;
    u8 record[CHANNEL_RECORD_MAX];
};

static void on_event(void *opaque, short events)
{
    struct link *l = opaque;

    l->wake(l->opaque);
}

int link_create(struct uvirt_vsock *v, struct channel *ch, void (*wake)(void *opaque), void *opaque,
                struct link **ret)
{
    struct sockaddr_vm a = {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = CONTROL_PORT};
    struct link *l = calloc(1, sizeof(*l));
    int rc;

    if (!l)
        return -ENOMEM;
    l->ch = ch;
    l->wake = wake;
    l->opaque = opaque;
    if (uvirt_vsock_socket(v, SOCK_SEQPACKET, &l->listener)) {
        rc = -errno;
        free(l);
        return rc;
    }
    uvirt_vsock_set_event(l->listener, on_event, l);
    if (uvirt_vsock_bind(l->listener, &a, sizeof(a)) || uvirt_vsock_listen(l->listener, 1)) {
        rc = -errno;
        link_free(l);
        return rc;
    }
    *ret = l;
    return 0;
}

static void drop(struct link *l)
{
    channel_disconnect(l->ch);
    uvirt_vsock_close(l->conn);
    l->conn = NULL;
}

/* From a port that not everybody in the guest may bind. */
static bool is_root(struct uvirt_vsock_socket *s)
{
    struct sockaddr_vm a;

    return !uvirt_vsock_getpeername(s, &a) && a.svm_port < CONTROL_GUEST_PORTS_END;
}

static void accept_one(struct link *l)
{
    struct uvirt_vsock_socket *s;

    if (uvirt_vsock_accept(l->listener, true, &s))
        return;
    if (l->conn || !is_root(s)) {
        uvirt_vsock_close(s);
        return;
    }
    l->conn = s;
    uvirt_vsock_set_event(s, on_event, l);
    channel_connect(l->ch);
}

/* True: there may be more. */
static bool receive(struct link *l)
{
    struct iovec v = {l->record, sizeof(l->record)};

    for (unsigned i = 0; i < RECORDS; i++) {
        int flags = MSG_DONTWAIT | MSG_TRUNC;
        ssize_t n = uvirt_vsock_recv(l->conn, &v, 1, &flags);

        if (n < 0 && errno == EAGAIN)
            return false;
        if (n <= 0 || (size_t)n > sizeof(l->record) ||
            channel_receive(l->ch, l->record, (size_t)n)) {
            drop(l);
            return true; /* the next one may wait already */
        }
    }
    return true;
}

static void send_all(struct link *l)
{
    struct iovec v[3];
    unsigned n;

    while ((n = channel_next(l->ch, v))) {
        if (uvirt_vsock_send(l->conn, v, n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
            if (errno != EAGAIN)
                drop(l);
            return;
        }
        channel_sent(l->ch);
    }
}

bool link_run(struct link *l)
{
    bool more = l->conn && receive(l);

    accept_one(l);
    if (l->conn)
        send_all(l);
    return more;
}

void link_free(struct link *l)
{
    if (!l)
        return;
    if (l->conn)
        uvirt_vsock_close(l->conn);
    uvirt_vsock_close(l->listener);
    free(l);
}
