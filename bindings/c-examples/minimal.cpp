// minimal.cpp - the smallest HTTPS server that gets its own certificate, in C++17 on OpenSSL and poll().
//
//   minimal-cpp NAME [PORT]
//
// Automatic HTTPS is the function below, and the two lines about the driver in the loop. The guide
// docs/guides/first-certificate.md shows the function. The rest is the server that you have.
//
// A signal ends the program at any moment: the store has all that the next start needs.
#include <poll.h>

#include <csignal>
#include <cstdlib>
#include <iostream>

#define ACME_MICRO_OPENSSL_IMPLEMENTATION  // in one file of the program
#include "acme_micro.hpp"
#include "acme_micro_openssl.h"
#include "listener.h"

// --- begin: automatic HTTPS ---
// Keeps a certificate for this name fresh, and serves it on every connection of tls.
acme::manager automatic_https(SSL_CTX *tls, const std::string &name, acme::driver &driver)
{
    const acme::store store = acme::store::directory("/var/lib/acme");
    acme::client_options ca{ACME_LETSENCRYPT_STAGING};
    ca.terms_agreed = true;  // you have read the CA's terms of service and agree
    ca.store = &store;
    const acme::client client(ca);
    acme::manager_options options{&client};
    acme_openssl_manage(options, tls);
    acme::manager manager(options);
    manager.add({{name}, {"tls-alpn-01"}});  // port 443 is enough
    manager.start(driver);
    return manager;
}
// --- end ---

int main(int argc, char **argv)
try {
    if (argc < 2)
        throw std::invalid_argument("NAME is missing");
    std::signal(SIGPIPE, SIG_IGN);  // a client may be gone before the response is sent
    const std::unique_ptr<SSL_CTX, void (*)(SSL_CTX *)> tls(SSL_CTX_new(TLS_server_method()), SSL_CTX_free);
    acme::driver driver;
    const acme::manager manager = automatic_https(tls.get(), argv[1], driver);
    const int listener = listen_on(static_cast<unsigned short>(argc > 2 ? std::atoi(argv[2]) : 443));
    pollfd watched[2] = {{driver.fd(), POLLIN, 0}, {listener, POLLIN, 0}};

    while (listener >= 0 && poll(watched, 2, -1) > 0) {
        if (watched[0].revents)
            driver.dispatch();
        if (watched[1].revents) {
            const int peer = accept(listener, nullptr, nullptr);
            SSL *ssl = SSL_new(tls.get());
            SSL_set_fd(ssl, peer);
            if (SSL_accept(ssl) == 1 && !acme_openssl_is_challenge(ssl))
                SSL_write(ssl, "HTTP/1.0 200 OK\r\n\r\nhello\n", 25);
            SSL_shutdown(ssl);
            SSL_free(ssl);
            close(peer);
        }
    }
    return 1;
} catch (const std::exception &error) {
    std::cerr << "minimal-cpp: " << error.what() << "\n";
    return 1;
}
