// SPDX-License-Identifier: MIT
// Records between a channel and uvirt, over vsock.

/*
 * A snapshot's VM goes on elsewhere, and there the kernel gets TRANSPORT_RESET: our socket breaks with ECONNRESET. The
 * channel knows how to go on over another one. Each has another port, so that no late packet of the old one hits it.
 *
 * Sends wait. One that does not would leave a part of a record behind where Linux runs out of credit half way.
 */
#include "link.h"
#include "init.h"
#include "vmm/control.h"

#include <errno.h>
#include <linux/vm_sockets.h>
#include <sys/socket.h>
#include <unistd.h>

#define TRY_MS    20000
#define RETRY_MS  2
#define PORTS_MIN 512

static int sock = -1;

int link_fd(void)
{
    return sock;
}

/* The next free port that only root may bind. 0 or -1. */
static int bind_port(int fd)
{
    static unsigned port = CONTROL_GUEST_PORTS_END;
    struct sockaddr_vm a = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY};

    for (unsigned i = PORTS_MIN; i < CONTROL_GUEST_PORTS_END; i++) {
        if (--port < PORTS_MIN)
            port = CONTROL_GUEST_PORTS_END - 1;
        a.svm_port = port;
        if (bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
            return 0;
        if (errno != EADDRINUSE)
            return -1;
    }
    return -1;
}

/* A connected socket, or -1. */
static int connect_once(void)
{
    const struct sockaddr_vm a = {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = CONTROL_PORT};
    int fd = socket(AF_VSOCK, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), e;

    if (fd < 0)
        return -1;
    if (bind_port(fd) == 0 && connect(fd, (const struct sockaddr *)&a, sizeof(a)) == 0)
        return fd;
    e = errno;
    close(fd);
    errno = e;
    return -1;
}

void link_open(struct channel *c)
{
    for (unsigned ms = 0; ms < TRY_MS && sock < 0; ms += RETRY_MS) {
        sock = connect_once();
        if (sock < 0 && errno == EAFNOSUPPORT)
            break;
        if (sock < 0)
            sleep_ms(RETRY_MS);
    }
    if (sock < 0)
        fail("vsock to uvirt (modules virtio_mmio and vmw_vsock_virtio_transport)");
    channel_connect(c);
}

static void reopen(struct channel *c)
{
    channel_disconnect(c);
    close(sock);
    sock = -1;
    link_open(c);
}

/* False: the connection is lost. */
static bool receive(struct channel *c)
{
    static char record[CHANNEL_RECORD_MAX + 1];

    for (;;) {
        ssize_t n = recv(sock, record, sizeof(record), MSG_DONTWAIT);

        if (n < 0 && errno == EAGAIN)
            return true;
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0 || channel_receive(c, record, (size_t)n))
            return false;
    }
}

static bool send_all(struct channel *c)
{
    struct iovec v[3];
    struct msghdr m = {.msg_iov = v};

    while ((m.msg_iovlen = channel_next(c, v))) {
        if (sendmsg(sock, &m, MSG_NOSIGNAL) < 0) {
            if (errno == EINTR)
                continue;
            return false;
        }
        channel_sent(c);
    }
    return true;
}

void link_exchange(struct channel *c)
{
    while (!receive(c) || !send_all(c))
        reopen(c);
}
