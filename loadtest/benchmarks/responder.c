/* The plainest server that the load generator can be measured against: one thread, one epoll, answers that cost nothing.
 *
 *   GET  …/sse                      a stream: `ready`, then whatever is broadcast
 *   POST …/sse                      its data, written to every stream: one write, and so one read, for each
 *   POST …/notify                   201, for nobody
 *   GET  …/count, …/notifications   an empty inbox
 *
 * usage: responder PORT [BYTES]     (listens on 127.0.0.1 until it is ended; an event is made at least so many bytes long)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST = 1 << 17, ROOM = 1 << 14 };

struct peer {
    char *held;
    int length;
    int stream; /* its place among the streams and one, or 0 */
};

static struct peer peers[MOST];
static int streams[MOST], count;
static unsigned long long dropped;
static int least;

static void leave(int fd) {
    if (peers[fd].stream) {
        int last = streams[--count];
        streams[peers[fd].stream - 1] = last;
        peers[last].stream = peers[fd].stream;
    }
    free(peers[fd].held);
    memset(&peers[fd], 0, sizeof peers[fd]);
    close(fd);
}

static void put(int fd, const char *text, int length) {
    /* A full socket loses the event: then the reader was too slow, and counts it as lost. */
    if (write(fd, text, length) != length) dropped++;
}

static void answer(int fd, int status, const char *body) {
    char text[1024];
    put(fd, text, snprintf(text, sizeof text, "HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", status, strlen(body), body));
}

static void broadcast(const char *body) {
    static char event[ROOM];
    const char *data = strstr(body, "\"data\":"), *end = strrchr(body, '}');
    if (!data || !end || end <= data || end - data > ROOM / 2) return;
    static const char filling[] = ",\"filling\":\"";
    int length = snprintf(event, sizeof event, "data: {\"type\":\"SYSTEM\",\"title\":\"Load test\",%.*s,\"ephemeral\":true", (int)(end - data), data);
    int more = least - length - (int)sizeof filling - 3;
    if (more > 0) {
        length += sprintf(event + length, "%s", filling);
        memset(event + length, 'x', more);
        length += more;
        event[length++] = '"';
    }
    length += sprintf(event + length, "}\n\n");
    for (int at = 0; at < count; at++) put(streams[at], event, length);
}

/* One whole request, ended by a NUL. */
static void request(int fd, const char *head, const char *body) {
    static const char stream[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
        "retry: 1000\nevent: ready\nid: 1-0\ndata: {\"connection_id\":\"c\",\"unread\":0,\"unseen\":0,\"last_event_id\":\"1-0\"}\n\n";
    const char *path = strchr(head, ' ');
    int get = head[0] == 'G';
    if (!path) return leave(fd);
    if (get && !strncmp(path, " /v1/notifications/sse", 22)) {
        streams[count++] = fd;
        peers[fd].stream = count;
        put(fd, stream, sizeof stream - 1);
        free(peers[fd].held);
        peers[fd].held = 0;
    } else if (!get && !strncmp(path, " /v1/notifications/sse", 22)) {
        broadcast(body);
        answer(fd, 200, "{\"message\":\"sent\",\"edges\":1}");
    } else if (!get) {
        answer(fd, 201, "{\"notifications\":[],\"skipped\":[]}");
    } else if (!strncmp(path, " /v1/notifications", 18)) {
        answer(fd, 200, "{\"data\":[],\"page\":{\"next\":null,\"limit\":200},\"unread\":0,\"unseen\":0,\"last_event_id\":\"1-0\"}");
    } else {
        answer(fd, 200, "{}");
    }
}

static void readable(int fd) {
    struct peer *peer = &peers[fd];
    char spare[512];
    if (peer->stream) {
        if (read(fd, spare, sizeof spare) <= 0 && errno != EAGAIN) leave(fd);
        return;
    }
    if (!peer->held && !(peer->held = malloc(ROOM))) exit(1);
    ssize_t got = read(fd, peer->held + peer->length, ROOM - 1 - peer->length);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN) leave(fd);
        return;
    }
    peer->length += got;
    peer->held[peer->length] = 0;
    char *end = strstr(peer->held, "\r\n\r\n");
    if (!end) {
        if (peer->length == ROOM - 1) leave(fd);
        return;
    }
    char *length = strcasestr(peer->held, "content-length:");
    int body = length && length < end ? atoi(length + 15) : 0;
    if (peer->length < end + 4 - peer->held + body) return;
    /* One request at a time: the tool sends the next one after the answer. */
    peer->length = 0;
    request(fd, peer->held, end + 4);
}

int main(int arguments, char **words) {
    if (arguments > 2) least = atoi(words[2]) < ROOM / 2 ? atoi(words[2]) : ROOM / 2;
    struct rlimit limit;
    if (!getrlimit(RLIMIT_NOFILE, &limit)) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(arguments > 1 ? atoi(words[1]) : 0), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM, 0), poll = epoll_create1(0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) {
        perror("responder");
        return 1;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, ready[1024];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int some = epoll_wait(poll, ready, 1024, -1);
        for (int at = 0; at < some; at++) {
            int fd = ready[at].data.fd;
            if (fd != listener) {
                readable(fd);
                continue;
            }
            fd = accept4(listener, 0, 0, SOCK_NONBLOCK);
            if (fd < 0) continue;
            if (fd >= MOST) {
                close(fd);
                continue;
            }
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
            event = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
            epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
        }
    }
}
