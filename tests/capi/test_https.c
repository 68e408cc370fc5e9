/* The examples' HTTPS client reads HTTP as servers write it: whole, and cut at every byte. */
#include "check.h"

#include "../../bindings/c-examples/https.h"

/* Parses the first size bytes of a response; ended: the connection closes after them. */
static int parse(struct https *https, const char *text, size_t size, int ended)
{
    free(https->answer);
    memset(https, 0, sizeof *https);
    https->answer = calloc(1, size + 1);
    memcpy(https->answer, text, size);
    https->size = size;
    return https_parse(https, ended);
}

/* Checks that the response is complete with its last byte and not before, and that its body is this. */
static void whole(const char *text, int status, const char *body)
{
    struct https https = { 0 };
    size_t size = strlen(text), cut;

    for (cut = 0; cut < size; cut++) {
        CHECK(parse(&https, text, cut, 0) == 0);
        CHECK(parse(&https, text, cut, 1) == -1);
    }
    CHECK(parse(&https, text, size, 0) == 1);
    CHECK(https.status == status && https.body_size == strlen(body));
    CHECK(memcmp(https.body, body, https.body_size) == 0);
    free(https.answer);
}

static void refused(const char *text)
{
    struct https https = { 0 };

    CHECK(parse(&https, text, strlen(text), 0) == -1);
    free(https.answer);
}

int main(void)
{
    const char *to_the_end = "HTTP/1.0 200 OK\r\nServer: old\r\n\r\nuntil it ends";
    struct https https = { 0 };

    whole("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole", 200, "whole");
    whole("HTTP/1.1 404 No:such\r\ncontent-length:0\r\n\r\n", 404, "");
    whole("HTTP/1.1 204 No Content\r\nReplay-Nonce: abc\r\n\r\n", 204, "");
    whole("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
          "5\r\nin \r\n\r\n00a;x=y\r\nsome chunk\r\n1\r\ns\r\n0\r\n\r\n", 200, "in \r\nsome chunks");
    whole("HTTP/1.1 200 OK\r\nTRANSFER-ENCODING: chunked\r\n\r\n"
          "0\r\nTrailer: one\r\nTrailer: two\r\n\r\n", 200, "");

    CHECK(parse(&https, to_the_end, strlen(to_the_end), 0) == 0);
    CHECK(parse(&https, to_the_end, strlen(to_the_end), 1) == 1);
    CHECK(https.body_size == 13 && memcmp(https.body, "until it ends", 13) == 0);
    free(https.answer);

    refused("SSH-2.0-server\r\n\r\n");
    refused("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhello\r\n");
    refused("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nhello");
    refused("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nhello");
    return report("test_https");
}
