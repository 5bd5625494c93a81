// Load for two network namespaces: 60-byte packets, connections, requests, each a subcommand. What is measured, and how the
// numbers compare, is ../tap/run's matter. After the project's own raw measurements of other switches (blast.c, crr.c).
//
//   load serve PORT                                answers every octet of every TCP connection, and every datagram, on PORT
//   load open  ADDRESS PORT FIRST COUNT            one datagram from each source port FIRST..FIRST+COUNT, all answered or exit 1
//   load blast DEVICE GATEWAY-MAC FROM TO PORT FIRST COUNT SECONDS SIZE
//                                                  UDP frames of SIZE octets from those source ports, as fast as they are taken
//   load connect ADDRESS PORT SECONDS PARALLEL     connect, an octet there and back, reset; prints connections a second
//   load ask   ADDRESS PORT SECONDS                an octet there and back on one connection; prints the median in microseconds
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, EVENTS = 256 };

static void die(const char *what) {
    perror(what);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static struct sockaddr_in address(const char *ip, int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (ip && !inet_aton(ip, &a.sin_addr)) die(ip);
    return a;
}

static void watch(int epoll, int fd, int how, unsigned events) {
    struct epoll_event e = {.events = events, .data.fd = fd};
    if (epoll_ctl(epoll, how, fd, &e)) die("epoll_ctl");
}

static void no_delay(int fd) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static _Noreturn void serve(int port) {
    int epoll = epoll_create1(0), one = 1;
    struct sockaddr_in a = address(NULL, port);
    int tcp = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    setsockopt(tcp, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(tcp, (void *)&a, sizeof a) || listen(tcp, 4096)) die("listen");
    if (bind(udp, (void *)&a, sizeof a)) die("bind");
    watch(epoll, tcp, EPOLL_CTL_ADD, EPOLLIN);
    watch(epoll, udp, EPOLL_CTL_ADD, EPOLLIN);
    for (;;) {
        struct epoll_event ready[EVENTS];
        int n = epoll_wait(epoll, ready, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            int fd = ready[i].data.fd;
            char octets[2048];
            if (fd == tcp) {
                int accepted;
                while ((accepted = accept4(tcp, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    no_delay(accepted);
                    watch(epoll, accepted, EPOLL_CTL_ADD, EPOLLIN);
                }
            } else if (fd == udp) {
                struct sockaddr_in from;
                socklen_t len = sizeof from;
                ssize_t got;
                while ((got = recvfrom(udp, octets, sizeof octets, 0, (void *)&from, &len)) >= 0)
                    if (sendto(udp, octets, got, 0, (void *)&from, len) < 0) perror("sendto");
            } else {
                ssize_t got = read(fd, octets, sizeof octets);
                if (got > 0 ? write(fd, octets, got) < 0 : got == 0 || errno != EAGAIN) close(fd);
            }
        }
    }
}

// A stateful device treats a flow that has never been answered otherwise than one that has.
static int open_flows(const char *ip, int port, int first, int count) {
    struct sockaddr_in to = address(ip, port);
    for (int i = 0; i < count; i++) {
        int fd = socket(AF_INET, SOCK_DGRAM, 0), answered = 0;
        struct sockaddr_in from = address(NULL, first + i);
        struct timeval patience = {.tv_sec = 1};
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        if (bind(fd, (void *)&from, sizeof from) || connect(fd, (void *)&to, sizeof to)) die("a source port");
        // Twice: one of two may be lost while neighbours are asked.
        for (int k = 0; k < 4 && answered < 2; k++) {
            char back[8];
            answered += write(fd, "open", 4) == 4 && read(fd, back, sizeof back) == 4;
        }
        close(fd);
        if (answered < 2) {
            fprintf(stderr, "no answer from %s:%d to port %d\n", ip, port, first + i);
            return 1;
        }
    }
    return 0;
}

static unsigned short checksum(const void *of, int octets) {
    const unsigned short *word = of;
    unsigned sum = 0;
    for (; octets > 1; octets -= 2) sum += *word++;
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return ~sum;
}

static int blast(char **v) {
    const char *device = v[0], *gateway = v[1], *from = v[2], *to = v[3];
    int port = atoi(v[4]), first = atoi(v[5]), count = atoi(v[6]), size = atoi(v[8]), on = 1, room = 8 << 20;
    double seconds = atof(v[7]);
    int fd = socket(AF_PACKET, SOCK_RAW, 0);
    struct ifreq request = {0};
    strncpy(request.ifr_name, device, IFNAMSIZ - 1);
    if (fd < 0 || ioctl(fd, SIOCGIFHWADDR, &request)) die(device);
    struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP), .sll_ifindex = if_nametoindex(device)};
    if (bind(fd, (void *)&at, sizeof at)) die("bind");
    if (setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof on)) perror("PACKET_QDISC_BYPASS");
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
    unsigned char mac[6], *frames = calloc(count, size);
    if (sscanf(gateway, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) != 6) die(gateway);
    in_addr_t src = inet_addr(from), dst = inet_addr(to);
    for (int i = 0; i < count; i++) {
        unsigned char *f = frames + (size_t)i * size, *ip = f + 14, *udp = ip + 20;
        unsigned short fields[] = {htons(first + i), htons(port), htons(size - 34)}, total = htons(size - 14), sum;
        memcpy(f, mac, 6);
        memcpy(f + 6, request.ifr_hwaddr.sa_data, 6);
        f[12] = 8;
        memcpy(ip, (unsigned char[]){0x45}, 1);
        memcpy(ip + 2, &total, 2);
        ip[8] = 64;
        ip[9] = IPPROTO_UDP;
        memcpy(ip + 12, &src, 4);
        memcpy(ip + 16, &dst, 4);
        sum = checksum(ip, 20);
        memcpy(ip + 10, &sum, 2);
        // No UDP checksum (RFC 768).
        memcpy(udp, fields, sizeof fields);
    }
    struct iovec part[BATCH];
    struct mmsghdr message[BATCH] = {0};
    for (int i = 0; i < BATCH; i++) message[i].msg_hdr = (struct msghdr){.msg_iov = &part[i], .msg_iovlen = 1};
    unsigned long sent = 0;
    double start = now(), took;
    for (int next = 0; (took = now() - start) < seconds;) {
        for (int i = 0; i < BATCH; i++, next = (next + 1) % count)
            part[i] = (struct iovec){frames + (size_t)next * size, size};
        int n = sendmmsg(fd, message, BATCH, 0);
        if (n > 0) sent += n;
    }
    printf("%lu %.6f\n", sent, took);
    return 0;
}

static int begin(int epoll, const struct sockaddr_in *to) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0 || (connect(fd, (const void *)to, sizeof *to) && errno != EINPROGRESS)) {
        if (fd >= 0) close(fd);
        return 0;
    }
    watch(epoll, fd, EPOLL_CTL_ADD, EPOLLOUT);
    return 1;
}

static int connections(const char *ip, int port, double seconds, int parallel) {
    struct sockaddr_in to = address(ip, port);
    int epoll = epoll_create1(0), active = 0;
    unsigned long done = 0, failed = 0;
    double start = now(), took;
    while ((took = now() - start) < seconds) {
        while (active < parallel && begin(epoll, &to)) active++;
        struct epoll_event ready[EVENTS];
        int n = epoll_wait(epoll, ready, EVENTS, 100);
        for (int i = 0; i < n; i++) {
            int fd = ready[i].data.fd;
            unsigned what = ready[i].events;
            char octet;
            if (!(what & (EPOLLERR | EPOLLHUP)) && what & EPOLLOUT && write(fd, "x", 1) == 1) {
                watch(epoll, fd, EPOLL_CTL_MOD, EPOLLIN);
                continue;
            }
            if (what & EPOLLIN && read(fd, &octet, 1) == 1) done++;
            else failed++;
            // Reset rather than FIN: no TIME-WAIT, so that ports do not run out.
            struct linger at_once = {1, 0};
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
            close(fd);
            active--;
        }
    }
    printf("%.0f %lu\n", done / took, failed);
    return 0;
}

static int by_size(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static int ask(const char *ip, int port, double seconds) {
    struct sockaddr_in to = address(ip, port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (void *)&to, sizeof to)) die("connect");
    no_delay(fd);
    // More than a million a second no kernel does.
    size_t done = 0, room = (size_t)((seconds + 1) * 1e6);
    float *took = malloc(room * sizeof *took);
    double start = now(), before = start;
    for (char octet = 'x'; before - start < seconds && done < room;) {
        if (write(fd, &octet, 1) != 1 || read(fd, &octet, 1) != 1) die("ask");
        double after = now();
        took[done++] = (after - before) * 1e6;
        before = after;
    }
    qsort(took, done, sizeof *took, by_size);
    printf("%.3f\n", took[done / 2]);
    return 0;
}

int main(int c, char **v) {
    const char *what = c > 1 ? v[1] : "";
    if (!strcmp(what, "serve") && c == 3) serve(atoi(v[2]));
    if (!strcmp(what, "open") && c == 6) return open_flows(v[2], atoi(v[3]), atoi(v[4]), atoi(v[5]));
    if (!strcmp(what, "blast") && c == 11) return blast(v + 2);
    if (!strcmp(what, "connect") && c == 6) return connections(v[2], atoi(v[3]), atof(v[4]), atoi(v[5]));
    if (!strcmp(what, "ask") && c == 5) return ask(v[2], atoi(v[3]), atof(v[4]));
    fprintf(stderr, "the first lines of the source say how it is called\n");
    return 2;
}
