/* bindings/c-examples/responder.h: one server for the challenges of several orders. */
#include "check.h"

#include "../../bindings/c-examples/responder.h"

static const char request[] = "GET " CHALLENGES "token HTTP/1.1\r\nHost: one.example\r\n\r\n";

static unsigned short free_port(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);

    bind(listener, (struct sockaddr *)&address, sizeof address);
    getsockname(listener, (struct sockaddr *)&address, &size);
    close(listener);
    return ntohs(address.sin_port);
}

static int answers(unsigned short port)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
    char answer[1024] = "";
    int client = socket(AF_INET, SOCK_STREAM, 0);
    size_t size = 0;
    ssize_t got;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(client, (struct sockaddr *)&address, sizeof address) == 0 &&
        send(client, request, sizeof request - 1, MSG_NOSIGNAL) > 0)
        while ((got = recv(client, answer + size, sizeof answer - 1 - size, 0)) > 0)
            size += (size_t)got;
    close(client);
    return strstr(answer, "\r\n\r\ntoken.thumbprint") != NULL;
}

int main(void)
{
    struct responder responder = { .port = free_port(), .listener = -1 };
    acme_challenge_t challenge = { .token = "token", .key_authorization = "token.thumbprint" };
    int round;

    for (round = 0; round < 2; round++) {
        CHECK(!answers(responder.port));
        CHECK(responder_publish(&challenge, &responder) == 0);
        CHECK(responder_publish(&challenge, &responder) == 0);
        CHECK(answers(responder.port));
        /* One order is done; the CA has not validated the other's challenge yet. */
        CHECK(responder_unpublish(&challenge, &responder) == 0);
        CHECK(answers(responder.port));
        CHECK(responder_unpublish(&challenge, &responder) == 0);
        CHECK(!answers(responder.port));
        /* The library calls unpublish after publish has failed, too. */
        CHECK(responder_unpublish(&challenge, &responder) == 0);
    }
    return report("test_responder");
}
