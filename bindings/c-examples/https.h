/*
 * https.h - a small HTTPS client over OpenSSL that never blocks: one request, one connection.
 *
 * Call https_begin(), then https_step() whenever the socket is ready for what the last call asked for.
 * The client reads the HTTP/1.1 responses (RFC 9112) that servers may send: bodies with a length, in
 * chunks, or up to the end of the connection.
 *
 * Define _POSIX_C_SOURCE as 200809L before the first #include.
 */
#ifndef HTTPS_H
#define HTTPS_H

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "acme_micro.h"

enum { HTTPS_FAILED = -1, HTTPS_DONE = 0, HTTPS_READ = 1, HTTPS_WRITE = 2 };
enum { HTTPS_ANSWER_MAX = 1024 * 1024 + 64 * 1024, HTTPS_HEAD_MAX = 64 * 1024 };

struct https {
    int fd;
    SSL *ssl;
    SSL_CTX *tls;
    const struct addrinfo *address; /* the address to try if this one fails */
    char *host;
    char *request;
    size_t request_size, sent;
    char *answer; /* ends with a NUL that is not part of it */
    size_t size, room;
    int status; /* the status and parts of a complete response */
    char *head, *body;
    size_t body_size;
    const char *why; /* the reason of a failure */
};

/* --- the response ----------------------------------------------------------------------------- */

/* Returns the start of the line after this one; NULL if this line is not complete. */
static char *https_next_line(char *line)
{
    char *end = strstr(line, "\r\n");

    return end ? end + 2 : NULL;
}

/* Returns the start of the field's value in this line; NULL if the line is another field. */
static const char *https_field(const char *line, const char *name)
{
    size_t size = strlen(name);

    return strncasecmp(line, name, size) == 0 && line[size] == ':' ? line + size + 1 : NULL;
}

/* Joins the chunks of a body in place. Returns 1 if the body is complete; only then it is changed. */
static int https_unchunk(char *body, size_t *size)
{
    char *from = body, *to = body, *line, *end = body + *size;
    size_t chunk, pass;

    for (pass = 0; pass < 2; pass++) { /* first check whether all chunks are there, then move them */
        for (from = to = body; (line = https_next_line(from)); from += chunk + 2) {
            char *digits_end;

            chunk = strtoul(from, &digits_end, 16);
            if (digits_end == from || chunk > HTTPS_ANSWER_MAX)
                return -1;
            from = line;
            if (chunk == 0)
                break;
            if ((size_t)(end - from) < chunk + 2)
                return 0;
            if (pass == 1)
                memmove(to, from, chunk);
            to += chunk;
        }
        for (; line && strncmp(from, "\r\n", 2) != 0; from = line) /* trailers */
            line = https_next_line(from);
        if (!line)
            return 0;
    }
    *size = (size_t)(to - body);
    return 1;
}

/* Parses the response as far as it has come. Returns 1 if it is complete, 0 if more must come, -1 if it is
 * not HTTP. Do not call it again after 1. */
static int https_parse(struct https *https, int ended)
{
    char *end = strstr(https->answer, "\r\n\r\n"), *line;
    const char *value;
    long long length = -1;
    int chunked = 0, done = 1;

    if (!end)
        return ended || https->size > HTTPS_HEAD_MAX ? -1 : 0;
    if (sscanf(https->answer, "HTTP/1.%*1d %3d", &https->status) != 1)
        return -1;
    https->head = https_next_line(https->answer);
    https->body = end + 4;
    https->body_size = (size_t)(https->answer + https->size - https->body);
    for (line = https->head; line < end; line = https_next_line(line)) {
        if ((value = https_field(line, "Content-Length")))
            length = strtoll(value, NULL, 10);
        else if (https_field(line, "Transfer-Encoding"))
            chunked = 1; /* the request allows no other encoding */
    }
    if (https->status == 204 || https->status == 304)
        length = 0;
    if (chunked)
        done = https_unchunk(https->body, &https->body_size);
    else if (length < 0)
        return ended;
    else if (https->body_size < (size_t)length)
        done = 0;
    else
        https->body_size = (size_t)length;
    return done == 0 && ended ? -1 : done;
}

/* --- the connection --------------------------------------------------------------------------- */

static void https_close(struct https *https)
{
    SSL_free(https->ssl);
    if (https->fd >= 0)
        close(https->fd);
    https->ssl = NULL;
    https->fd = -1;
}

/* Connects to the next address of the host. Returns -1 after the last one. */
static int https_connect(struct https *https)
{
    for (; https->address; https->address = https->address->ai_next) {
        const struct addrinfo *to = https->address;

        https_close(https);
        https->fd = socket(to->ai_family, SOCK_STREAM, 0);
        if (https->fd < 0)
            continue;
        fcntl(https->fd, F_SETFD, FD_CLOEXEC);
        fcntl(https->fd, F_SETFL, O_NONBLOCK);
        if (connect(https->fd, to->ai_addr, to->ai_addrlen) != 0 && errno != EINPROGRESS)
            continue;
        https->address = to->ai_next;
        https->ssl = SSL_new(https->tls);
        if (!https->ssl || !SSL_set_fd(https->ssl, https->fd))
            return -1;
        SSL_set_connect_state(https->ssl);
        if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(https->ssl), https->host))
            return 0;
        return SSL_set1_host(https->ssl, https->host) &&
                       SSL_set_tlsext_host_name(https->ssl, https->host)
                   ? 0 : -1;
    }
    return -1;
}

/* Prepares the request. The caller keeps addresses, the host's, valid. Returns 0, or -1 if memory is out. */
static inline int https_begin(struct https *https, SSL_CTX *tls, const struct addrinfo *addresses,
                              const acme_http_request_t *request)
{
    const char *open = strchr(request->host, ':') ? "[" : "", *close = *open ? "]" : "";
    size_t room = 512 + strlen(request->path) + strlen(request->host) + request->body_size;
    int at, i;

    for (i = 0; i < request->header_count; i++)
        room += strlen(request->headers[i].name) + strlen(request->headers[i].value) + 4;
    memset(https, 0, sizeof *https);
    https->fd = -1;
    https->tls = tls;
    https->address = addresses;
    https->host = strdup(request->host);
    https->request = malloc(room);
    https->room = 8192;
    https->answer = calloc(1, https->room);
    if (!https->host || !https->request || !https->answer)
        return -1;
    at = snprintf(https->request, room, "%s %s HTTP/1.1\r\nHost: %s%s%s:%u\r\nConnection: close\r\n",
                  request->method, request->path, open, request->host, close, request->port);
    for (i = 0; i < request->header_count; i++)
        at += snprintf(https->request + at, room - (size_t)at, "%s: %s\r\n",
                       request->headers[i].name, request->headers[i].value);
    if (request->body_size > 0)
        at += snprintf(https->request + at, room - (size_t)at, "Content-Length: %zu\r\n",
                       request->body_size);
    at += snprintf(https->request + at, room - (size_t)at, "\r\n");
    memcpy(https->request + at, request->body, request->body_size);
    https->request_size = (size_t)at + request->body_size;
    return 0;
}

/* Returns the event that OpenSSL waits for, or HTTPS_FAILED. */
static int https_wait(struct https *https, int result)
{
    const char *reason;

    switch (SSL_get_error(https->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        return HTTPS_READ;
    case SSL_ERROR_WANT_WRITE:
        return HTTPS_WRITE;
    default:
        reason = ERR_reason_error_string(ERR_peek_last_error());
        if (SSL_get_verify_result(https->ssl) != X509_V_OK)
            reason = X509_verify_cert_error_string(SSL_get_verify_result(https->ssl));
        https->why = reason ? reason : "the connection broke";
        return HTTPS_FAILED;
    }
}

static int https_receive(struct https *https)
{
    int got, ended, wait, done;

    for (;;) {
        if (https->room - https->size < 4096) {
            char *larger = realloc(https->answer, https->room * 2);

            if (!larger || https->room > HTTPS_ANSWER_MAX) {
                https->why = larger ? "the response is too large" : "no memory";
                https->answer = larger ? larger : https->answer;
                return HTTPS_FAILED;
            }
            https->answer = larger;
            https->room *= 2;
        }
        got = SSL_read(https->ssl, https->answer + https->size,
                       (int)(https->room - https->size - 1));
        if (got > 0) {
            https->size += (size_t)got;
            https->answer[https->size] = '\0';
            continue; /* read until OpenSSL has no more: poll() on the socket does not see OpenSSL's buffer */
        }
        /* Many servers close without TLS's close_notify: no harm if the response is complete. */
        ended = SSL_get_error(https->ssl, got) == SSL_ERROR_ZERO_RETURN;
        wait = ended ? HTTPS_FAILED : https_wait(https, got);
        done = https_parse(https, ended);
        if (done < 0)
            https->why = "the response is no HTTP, or not complete";
        return done < 0 ? HTTPS_FAILED : done ? HTTPS_DONE : wait;
    }
}

/* Continues the request. HTTPS_READ, HTTPS_WRITE: call again when fd can be read or written; fd may have
 * changed. HTTPS_DONE: the response is complete. HTTPS_FAILED: the member why has the reason. */
static inline int https_step(struct https *https)
{
    int result;

    ERR_clear_error();
    if (!https->ssl) {
        if (https_connect(https) != 0) {
            https->why = "no address of the host can be connected to";
            return HTTPS_FAILED;
        }
        return HTTPS_WRITE;
    }
    if (!SSL_is_init_finished(https->ssl)) {
        int error = 0;
        socklen_t size = sizeof error;

        getsockopt(https->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error != 0) {
            https->why = strerror(error);
            return https->address && https_connect(https) == 0 ? HTTPS_WRITE : HTTPS_FAILED;
        }
        result = SSL_do_handshake(https->ssl);
        if (result != 1)
            return https_wait(https, result);
    }
    if (https->sent < https->request_size) { /* OpenSSL takes the whole request, or nothing yet */
        result = SSL_write(https->ssl, https->request, (int)https->request_size);
        if (result <= 0)
            return https_wait(https, result);
        https->sent = https->request_size;
    }
    return https_receive(https);
}

/* After HTTPS_DONE: passes the response to the operation that sent the request. */
static inline void https_feed(struct https *https, acme_op_t *op, uint64_t id)
{
    char *line, *next;

    for (line = https->head; line + 2 < https->body; line = next) {
        size_t name = strcspn(line, ":\r");

        next = https_next_line(line);
        if (line[name] == ':')
            acme_op_response_header(op, id, line, name, line + name + 1,
                                    (size_t)(next - 2 - (line + name + 1)));
    }
    acme_op_response_body(op, id, https->body, https->body_size);
    acme_op_response_end(op, id, https->status);
}

static inline void https_end(struct https *https)
{
    https_close(https);
    free(https->host);
    free(https->request);
    free(https->answer);
}

#endif
