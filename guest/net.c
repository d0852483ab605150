// SPDX-License-Identifier: MIT
// Static addresses for the interface of `--net user`: no DHCP to wait for.
#include "net.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define GUEST   "10.0.2.15"
#define NETMASK "255.255.255.0"
#define ROUTER  "10.0.2.2"
#define DNS     "10.0.2.3"
#define GUEST6  "fec0::5054:ff:fe12:3456"
#define PREFIX6 64
#define ROUTER6 "fec0::2"

/* linux/ipv6.h has it, but does not go with netinet/in.h. */
struct in6_ifreq {
    struct in6_addr ifr6_addr;
    uint32_t ifr6_prefixlen;
    int ifr6_ifindex;
};

static int up(int fd, const char *name)
{
    struct ifreq ifr = {.ifr_flags = IFF_UP};

    snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
    return ioctl(fd, SIOCSIFFLAGS, &ifr);
}

void net_loopback_up(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return;
    up(fd, "lo");
    close(fd);
}

/* The first interface that has a device behind it. */
static bool find_card(char name[IFNAMSIZ])
{
    DIR *d = opendir("/sys/class/net");
    char path[300];
    bool found = false;
    struct dirent *e;

    while (d && !found && (e = readdir(d))) {
        snprintf(path, sizeof(path), "/sys/class/net/%s/device", e->d_name);
        found = e->d_name[0] != '.' && strlen(e->d_name) < IFNAMSIZ && access(path, F_OK) == 0;
        if (found)
            memcpy(name, e->d_name, strlen(e->d_name) + 1);
    }
    if (d)
        closedir(d);
    return found;
}

static struct sockaddr address(const char *text)
{
    union {
        struct sockaddr_in in;
        struct sockaddr sa;
    } a = {.in.sin_family = AF_INET};

    inet_pton(AF_INET, text, &a.in.sin_addr);
    return a.sa;
}

static int set_ipv4(int fd, const char *name)
{
    struct ifreq ifr = {.ifr_addr = address(GUEST)};
    struct rtentry route = {
        .rt_dst = address("0.0.0.0"),
        .rt_genmask = address("0.0.0.0"),
        .rt_gateway = address(ROUTER),
        .rt_flags = RTF_UP | RTF_GATEWAY,
    };

    snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
    if (ioctl(fd, SIOCSIFADDR, &ifr) < 0)
        return -1;
    ifr.ifr_netmask = address(NETMASK);
    if (ioctl(fd, SIOCSIFNETMASK, &ifr) < 0)
        return -1;
    return ioctl(fd, SIOCADDRT, &route);
}

static void set_sysctl(const char *name, const char *key, const char *value)
{
    char path[300];
    int fd;

    snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/%s", name, key);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (write(fd, value, strlen(value)) < 0)
        fprintf(stderr, "uvirt init: %s: %s\n", path, strerror(errno));
    close(fd);
}

static int set_ipv6(const char *name)
{
    int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0), index = (int)if_nametoindex(name), rc;
    struct in6_ifreq ifr = {.ifr6_prefixlen = PREFIX6, .ifr6_ifindex = index};
    struct in6_rtmsg route = {
        .rtmsg_flags = RTF_UP | RTF_GATEWAY, .rtmsg_metric = 1, .rtmsg_ifindex = index};

    if (fd < 0)
        return errno == EAFNOSUPPORT ? 0 : -1;
    inet_pton(AF_INET6, GUEST6, &ifr.ifr6_addr);
    inet_pton(AF_INET6, ROUTER6, &route.rtmsg_gateway);
    rc = ioctl(fd, SIOCSIFADDR, &ifr);
    if (rc == 0)
        rc = ioctl(fd, SIOCADDRT, &route);
    close(fd);
    return rc;
}

static void name_server(void)
{
    int fd;

    mkdir("/etc", 0755);
    fd = open("/etc/resolv.conf", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0)
        return;
    dprintf(fd, "nameserver %s\n", DNS);
    close(fd);
}

const char *net_user_up(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const char *what = NULL;
    char name[IFNAMSIZ];

    if (fd < 0)
        return "a socket for the network";
    if (!find_card(name)) {
        errno = ENODEV;
        what = "the network card (module virtio_net)";
        goto out;
    }
    set_sysctl(name, "accept_dad", "0"); /* there is nobody else: addresses are usable at once */
    set_sysctl(name, "accept_ra", "0");
    if (up(fd, name) < 0)
        what = "bringing up the network card";
    else if (set_ipv4(fd, name) < 0)
        what = "the IPv4 address";
    else if (set_ipv6(name) < 0)
        what = "the IPv6 address";
    name_server();
out:
    close(fd);
    return what;
}
