// https_server.cpp - an HTTPS server that gets its own certificates, in C++17 on cpp-httplib.
//
//   https_server-cpp --directory URL [--ca-file FILE] --agree-terms [--port N] --state DIR NAME...
//
// Serves port N (443), at first without a certificate. Obtains a certificate for all NAMEs by tls-alpn-01
// on the same port, and renews it when the CA says that it is due. A renewal disturbs neither handshakes
// nor connections. DIR is a store (acme::store::directory()), which the next start uses again.
//
//   SIGHUP           renews the certificate now
//   SIGINT, SIGTERM  end the server
//
// Two parts: acme_micro_openssl.h chooses the certificate of each handshake; a manager on a thread of its own
// talks to the CA, because this server has threads already. Your server can use the class certificates
// unchanged. (https_server.c does the same on one thread.)
#include <httplib.h>

#include <unistd.h>

#include <csignal>
#include <cstring>
#include <iostream>
#include <thread>

#include "acme_micro.hpp"
#include "start.h"

#define ACME_MICRO_OPENSSL_IMPLEMENTATION
#include "acme_micro_openssl.h"

using namespace std::chrono_literals;

// --- certificates -------------------------------------------------------------------------------

// Keeps a certificate for the order's names fresh, for the handshakes of a server.
class certificates {
public:
    certificates(SSL_CTX &context, acme::client_options options, const acme::order_options &order,
                 const std::string &folder, std::function<void(const acme::manager_event &)> on_event)
        : store_(acme::store::directory(folder)), client_((options.store = &store_, options)),
          manager_(manager_options(context, std::move(on_event)))
    {
        manager_.add(order);
        thread_ = std::thread([this] { manager_.run(); });
    }

    // Cancels an order in progress, which removes its challenges. The next start goes on with it.
    ~certificates()
    {
        manager_.stop();
        thread_.join();
    }

    void renew(const std::string &name) { manager_.renew(name); }

private:
    acme::manager_options manager_options(SSL_CTX &context,
                                          std::function<void(const acme::manager_event &)> on_event)
    {
        acme::manager_options options{&client_, std::move(on_event)};
        acme_openssl_manage(options, &context);
        return options;
    }

    acme::store store_;
    acme::client client_;
    acme::manager manager_;
    std::thread thread_;
};

// --- the server ---------------------------------------------------------------------------------

static std::mutex serial_lock;
static std::string serial = "none";

static void on_certificate(const acme::manager_event &event)
{
    if (event.error)
        std::cerr << "https_server-cpp: " << event.name << ": " << event.error->what() << std::endl;
    if (!event.cert || event.type == acme::event_type::not_due)
        return;
    std::cout << "serving certificate " << event.cert->serial() << ", for " << event.cert->days_left() << " days"
              << std::endl;
    const std::lock_guard<std::mutex> lock(serial_lock);
    serial = event.cert->serial();
}

// Adds the pages of this server: "/" shows the serial number of the certificate, "/download?N" is N
// bytes long.
static void add_pages(httplib::Server &server)
{
    server.Get("/", [](const httplib::Request &, httplib::Response &response) {
        const std::lock_guard<std::mutex> lock(serial_lock);
        response.set_content("certificate " + serial + "\n", "text/plain");
    });
    server.Get("/download", [](const httplib::Request &request, httplib::Response &response) {
        const std::string wanted = request.params.empty() ? "" : request.params.begin()->first;
        const std::size_t size = std::strtoul(wanted.c_str(), nullptr, 10);
        if (size > 100000000) {
            response.status = 404;
            return;
        }
        response.set_content_provider(
            size, "application/octet-stream",
            [](std::size_t, std::size_t length, httplib::DataSink &sink) {
                static const std::string bytes(64 * 1024, '\0');
                return sink.write(bytes.data(), std::min(length, bytes.size()));
            });
    });
}

static int run(const acme::client_options &options, const acme::order_options &order,
               const std::string &state, int port)
{
    // One thread waits for the signals. Every other thread inherits this mask, which blocks them.
    sigset_t signals;
    sigemptyset(&signals);
    for (const int number : {SIGHUP, SIGINT, SIGTERM})
        sigaddset(&signals, number);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    std::signal(SIGPIPE, SIG_IGN);

    std::optional<certificates> certs;
    httplib::SSLServer server([&](SSL_CTX &context) {
        certs.emplace(context, options, order, state, on_certificate);
        return true;
    });
    add_pages(server);
    server.new_task_queue = [] { return new httplib::ThreadPool(64); };
    server.set_write_timeout(60s);
    server.set_keep_alive_max_count(10000);
    server.set_socket_options([](socket_t socket) {
        const int on = 1;
        setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    });
    if (!server.is_valid() || !server.bind_to_port("0.0.0.0", port)) {
        std::cerr << "https_server-cpp: port " << port << ": " << std::strerror(errno) << "\n";
        return 1;
    }
    std::thread waiter([&] {
        int number = 0;
        while (sigwait(&signals, &number) == 0 && number == SIGHUP)
            certs->renew(order.names.front());
        server.stop();
    });
    server.listen_after_bind();
    kill(getpid(), SIGTERM);  // ends the waiting thread if the server stopped without a signal
    waiter.join();
    return 0;
}

int main(int argc, char **argv)
try {
    acme::client_options options;
    acme::order_options order;
    std::string state;
    int i, port = 443;

    for (i = 1; i < argc && argv[i][0] == '-'; i++) {
        const std::string_view option = argv[i];
        if (option == "--agree-terms")
            options.terms_agreed = true;
        else if (i + 1 == argc)
            break;
        else if (option == "--directory")
            options.directory_url = argv[++i];
        else if (option == "--ca-file")
            options.ca_file = argv[++i];
        else if (option == "--port")
            port = std::atoi(argv[++i]);
        else if (option == "--state")
            state = argv[++i];
        else
            break;
    }
    if (start(argc, argv) != 0 || i == argc || argv[i][0] == '-' || options.directory_url.empty() ||
        state.empty()) {
        std::cerr << "usage: https_server-cpp --directory URL [--ca-file FILE] --agree-terms\n"
                     "       [--port N] --state DIR NAME...\n";
        return 2;
    }
    order.names.assign(argv + i, argv + argc);
    order.challenge_types = {"tls-alpn-01"};
    return run(options, order, state, port);
} catch (const std::exception &error) {
    std::cerr << "https_server-cpp: " << error.what() << "\n";
    return 1;
}
