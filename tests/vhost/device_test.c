// SPDX-License-Identifier: MIT
// The program `uvirt vsock-device`: a guest through it, killed and started again, its counters, bad options.
#include "../vsock/unix_host.h"

#include "vhost/frontend.h"
#include "virtio/vsock.h"

#include <sys/wait.h>

#define CID 3

static const char *uvirt;
static char said[4096]; /* on stderr, by the last one that has ended */

/* The program with (args), NULL at the end; its stderr goes to a file of the test. */
static pid_t start(char *const args[])
{
    pid_t pid = fork();

    if (!pid) {
        int err = open(path_of("stderr", ""), O_WRONLY | O_CREAT | O_TRUNC, 0600);

        dup2(err, 2);
        execv(uvirt, args);
        _exit(126);
    }
    return pid;
}

/* Wait for the end: the exit status, or 128 and a signal. Leaves (said). */
static int ended(pid_t pid)
{
    int status, fd;
    ssize_t n;

    if (waitpid(pid, &status, 0) != pid)
        exit(99);
    fd = open(path_of("stderr", ""), O_RDONLY);
    n = read(fd, said, sizeof(said) - 1);
    said[n > 0 ? n : 0] = 0;
    close(fd);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static pid_t device(const char *socket, const char *path)
{
    char *args[] = {(char *)"uvirt",    (char *)"vsock-device",
                    (char *)"--socket", (char *)socket,
                    (char *)"--cid",    (char *)"3",
                    (char *)"--path",   (char *)path,
                    (char *)"--stats",  NULL};
    pid_t pid = start(args);

    for (;;) {
        int fd = dial_raw(path, SOCK_STREAM);

        close(fd);
        if (fd >= 0)
            return pid;
        pause_ms(5);
    }
}

static struct vhost_frontend *front(struct uvirt_vsock *guest, const char *socket)
{
    struct vsock_driver_options o = {
        .features = BIT(VIRTIO_VSOCK_F_STREAM) | BIT(VIRTIO_VSOCK_F_SEQPACKET), .rx_size = 4096};
    struct vhost_frontend *f;

    while (vhost_frontend_create(guest, socket, &o, &f))
        pause_ms(5);
    return f;
}

/* A thousand bytes to the guest and 500 back. */
static bool talk(sock *l, int fd)
{
    char buf[1000] = {0};
    sock *g = fd >= 0 ? accept_soon(l) : NULL;
    bool good = g && send(fd, buf, 1000, 0) == 1000 &&
                do_recv(g, buf, 1000, MSG_WAITALL, NULL) == 1000 &&
                do_send(g, buf, 500, 0) == 500 && recv(fd, buf, 500, MSG_WAITALL) == 500;

    if (g)
        uvirt_vsock_close(g);
    close(fd);
    return good;
}

static bool talk_to_host(struct uvirt_vsock *guest, int l)
{
    sock *g = new_sock(guest, SOCK_SEQPACKET);
    u32 cid = 0, port = 0;
    char buf[8];
    int fd;
    bool good = !do_connect(g, VMADDR_CID_HOST, 5000, false) &&
                (fd = accept_who(l, &cid, &port)) >= 0 && cid == CID &&
                do_send(g, "record", 6, 0) == 6 && recv(fd, buf, 8, 0) == 6 && !close(fd);

    uvirt_vsock_close(g);
    return good;
}

static void test_life(void)
{
    struct uvirt_vsock *guest = context(CID, false, false);
    char socket[128], path[128];
    struct vhost_frontend *f;
    int host = listen_at(path_of("v", "_5000"), SOCK_SEQPACKET, 4);
    sock *l = listener(guest, SOCK_STREAM, 2000, 8);
    pid_t pid;

    snprintf(socket, sizeof(socket), "%s", path_of("s", ""));
    snprintf(path, sizeof(path), "%s", path_of("v", ""));
    pid = device(socket, path);
    f = front(guest, socket);
    ok(talk(l, dial(path, SOCK_STREAM, 2000)), "host to guest");
    ok(talk_to_host(guest, host), "guest to host");
    kill(pid, SIGKILL);
    is_u64((u64)ended(pid), 128 + SIGKILL, "the device is killed");
    pid = device(socket, path);
    while (vhost_frontend_generation(f) < 2)
        pause_ms(5);
    ok(talk(l, dial(path, SOCK_STREAM, 2000)),
       "another one, over its stale sockets: host to guest");
    ok(talk_to_host(guest, host), "guest to host");
    kill(pid, SIGTERM);
    is_u64((u64)ended(pid), 0, "SIGTERM ends it");
    ok(access(socket, F_OK) && access(path, F_OK) && access(path_of("v", "_seqpacket"), F_OK),
       "its sockets go");
    /* They may be open still: ", open" is behind the type then. */
    ok(strstr(said, "stats: vsock connections 2\n") && strstr(said, "guest 3:2000, 2:") &&
           strstr(said, " stream") && strstr(said, ": to it 1000 bytes in ") &&
           strstr(said, "from it 500 in ") && strstr(said, "2:5000 seqpacket") &&
           strstr(said, "from it 6 in "),
       "--stats has both connections");
    vhost_frontend_free(f);
    uvirt_vsock_close(l);
    uvirt_vsock_free(guest);
    close(host);
}

/* One clear line, and the exit code of uvirt's own failures. */
static void refused(const char *socket, const char *cid, const char *path, const char *framing,
                    const char *why)
{
    char *args[] = {(char *)"uvirt",
                    (char *)"vsock-device",
                    (char *)"--socket",
                    (char *)socket,
                    (char *)"--cid",
                    (char *)cid,
                    (char *)"--path",
                    (char *)path,
                    framing ? (char *)"--framing" : NULL,
                    (char *)framing,
                    NULL};
    int rc = ended(start(args));
    char *line = strchr(said, '\n');

    if (!ok(rc == 125 && line && !line[1] && !strncmp(said, "uvirt: ", 7) && strstr(said, why),
            "refused: %s", why))
        printf("# rc %d: %s\n", rc, said);
}

static void test_bad(void)
{
    static const char *const cids[] = {
        "0", "1", "2", "4294967295", "4294967296", "18446744073709551615", "x", "-1", ""};
    char good[128], other[128], file[128], live[128], lengthy[128], none[128];
    struct stat st;
    int fd;

    snprintf(good, sizeof(good), "%s", path_of("s", ""));
    snprintf(other, sizeof(other), "%s", path_of("w", ""));
    snprintf(file, sizeof(file), "%s", path_of("file", ""));
    snprintf(live, sizeof(live), "%s", path_of("live", ""));
    snprintf(none, sizeof(none), "%s", path_of("none/v", ""));
    memset(lengthy, 'x', sizeof(lengthy));
    lengthy[120] = 0;
    close(creat(file, 0600));
    fd = listen_at(live, SOCK_STREAM, 1);
    for (size_t i = 0; i < ARRAY_SIZE(cids); i++)
        refused(good, cids[i], other, NULL, "accepted: --cid 3 to 4294967294");
    refused(lengthy, "3", other, NULL, "a Unix socket's name has 1 to 107 bytes");
    refused("", "3", other, NULL, "a Unix socket's name has 1 to 107 bytes");
    refused(good, "3", lengthy, NULL, "sockets can have names of 86");
    refused(good, "3", "", NULL, "--path");
    refused(good, "3", file, NULL, "it exists and is not a socket");
    refused(good, "3", live, NULL, "somebody listens there already");
    refused(good, "3", none, NULL, "No such file or directory");
    refused(live, "3", other, NULL, "somebody listens there, or it is no socket");
    refused(file, "3", other, NULL, "somebody listens there, or it is no socket");
    refused(none, "3", other, NULL, "No such file or directory");
    refused(good, "3", other, "x", "accepted: --framing eom|marker");
    ok(!stat(file, &st) && S_ISREG(st.st_mode) && !access(live, F_OK),
       "what was there is still there");
    ok(access(good, F_OK) && access(other, F_OK), "and nothing else");
    close(fd);
}

int main(void)
{
    uvirt = getenv("UVIRT_TEST_UVIRT");
    if (!uvirt)
        return tap_skip_all("UVIRT_TEST_UVIRT does not name uvirt");
    begin();
    test_life();
    test_bad();
    end();
    return tap_done();
}
