// https_server.cpp - an HTTPS server that gets its own certificates, in C++17 on cpp-httplib.
//
//   https_server-cpp --directory URL [--ca-file FILE] --agree-terms [--port N] --state DIR NAME...
//
// Serves port N (443), at first without a certificate. Obtains a certificate for all NAMEs by tls-alpn-01
// on the same port, and renews it when the CA says that it is due. A renewal disturbs neither handshakes
// nor connections. DIR holds account.pem, key.pem and chain.pem, which the next start uses again.
//
//   SIGHUP           renews the certificate now
//   SIGINT, SIGTERM  end the server
//
// Two parts: acme_micro_openssl.h chooses the certificate of each handshake; a thread talks to the CA with
// blocking calls, because this server has threads already. Your server can use the class certificates
// unchanged. (https_server.c does the same on one thread.)
#include <httplib.h>

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <thread>

#include "acme_micro.hpp"
#include "files.hpp"
#include "start.h"

#define ACME_MICRO_OPENSSL_IMPLEMENTATION
#include "acme_micro_openssl.h"

using namespace std::chrono_literals;
using std::chrono::system_clock;

// --- certificates -------------------------------------------------------------------------------

// Keeps a valid certificate for names in a store for handshakes, on a thread of its own.
class certificates {
public:
    certificates(acme::client_options options, std::vector<std::string> names, fs::path state)
        : names_(std::move(names)), state_(std::move(state)), directory_url_(options.directory_url),
          key_(stored_key(state_ / "key.pem"))
    {
        is_noted_ = is_for(state_, directory_url_);
        const acme::key account = stored_key(state_ / "account.pem");
        options.account_key = &account;
        client_.emplace(options);
        acme_openssl_store_t *store = nullptr;
        if (acme_openssl_store_new(&store) != ACME_OK)
            throw std::runtime_error("OpenSSL has no memory left for a store of certificates");
        store_.reset(store);
        try {
            if (const auto chain = load(state_ / "chain.pem"))
                serve(acme::certificate::parse(*chain));
        } catch (const std::exception &error) {  // the thread orders a new certificate
            std::cerr << "https_server-cpp: chain.pem: " << error.what() << std::endl;
        }
        thread_ = std::thread([this] { keep(); });
    }

    // Cancels an order in progress, which removes its challenges.
    ~certificates()
    {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            stopping_ = true;
            if (operation_)
                operation_->cancel();
        }
        changed_.notify_all();
        thread_.join();
    }

    bool attach(SSL_CTX &context) { return acme_openssl_attach(&context, store_.get()) == ACME_OK; }

    void renew_now()
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        renew_now_ = true;
        changed_.notify_all();
    }

    std::string serial()
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        return cert_ ? cert_->serial() : "none";
    }

private:
    void keep()
    {
        std::size_t failures = 0, renewals = 0;  // number in a row
        const auto in_use = [this] { return cert_ ? &*cert_ : nullptr; };
        std::unique_lock<std::mutex> lock(mutex_);
        while (!stopping_) {
            const bool now = std::exchange(renew_now_, false);
            acme::time_point next;
            lock.unlock();
            try {
                const auto not_due_until = renew(now);
                failures = 0;
                renewals = not_due_until ? 0 : renewals + 1;
                next = not_due_until ? *not_due_until
                                     : acme::next_try(renewals, nullptr, in_use());
            } catch (const std::exception &error) {
                std::cerr << "https_server-cpp: " << error.what() << std::endl;
                const auto failed = dynamic_cast<const acme::error *>(&error);
                next = acme::next_try(++failures, failed, in_use());
            }
            lock.lock();
            // Wait at most twelve hours at a time, because someone may set the clock meanwhile.
            changed_.wait_until(lock, std::min(next, system_clock::now() + 12h),
                                [this] { return stopping_ || renew_now_; });
        }
    }

    // Orders a certificate if the server has none, or if its renewal is due. Returns when to check again
    // if it is not due.
    std::optional<acme::time_point> renew(bool now)
    {
        acme::order_options order;
        order.names = names_;
        order.challenge_types = {"tls-alpn-01"};
        order.key = &key_;
        // Only this thread changes it. In an older state it may be another CA's.
        order.replaces = cert_ && is_noted_ ? &*cert_ : nullptr;
        order.only_if_due = order.replaces && !now;
        acme::handlers handlers;
        handlers.publish = [this](const acme::challenge &c) {
            if (acme_openssl_store_challenge_add(store_.get(), c.shown) != ACME_OK)
                throw std::runtime_error("OpenSSL refuses the certificate of the challenge for " + c.identifier);
        };
        handlers.unpublish = [this](const acme::challenge &c) {
            acme_openssl_store_challenge_remove(store_.get(), c.shown);
        };
        const cancelable running(*this, client_->begin_order(order));
        running.op->run(handlers);
        if (std::optional<acme::certificate> made = running.op->take_certificate()) {
            save(state_ / "chain.pem", 0644, made->chain_pem());
            if (!is_noted_)
                note_ca(state_, directory_url_);
            is_noted_ = true;
            serve(std::move(*made));
            return std::nullopt;
        }
        const auto info = running.op->renewal();
        return std::min(info->renew_at, info->check_again_at);
    }

    // Lets new handshakes use cert from now on.
    void serve(acme::certificate cert)
    {
        if (acme_openssl_store_set(store_.get(), cert.native_handle(), key_.native_handle()) !=
            ACME_OK)
            throw std::runtime_error("the certificate does not belong to the key in key.pem");
        std::cout << "serving certificate " << cert.serial() << ", for " << cert.days_left()
                  << " days" << std::endl;
        const std::lock_guard<std::mutex> lock(mutex_);
        cert_ = std::move(cert);
    }

    // Registers the running operation, for the destructor to cancel.
    struct cancelable {
        certificates &owner;
        std::unique_ptr<acme::operation> op;

        cancelable(certificates &its_owner, acme::operation begun)
            : owner(its_owner), op(std::make_unique<acme::operation>(std::move(begun)))
        {
            const std::lock_guard<std::mutex> lock(owner.mutex_);
            owner.operation_ = op.get();
            if (owner.stopping_)
                op->cancel();
        }
        cancelable(const cancelable &) = delete;
        cancelable &operator=(const cancelable &) = delete;
        ~cancelable()
        {
            const std::lock_guard<std::mutex> lock(owner.mutex_);
            owner.operation_ = nullptr;
        }
    };

    struct free_store {
        void operator()(acme_openssl_store_t *store) const { acme_openssl_store_free(store); }
    };

    const std::vector<std::string> names_;
    const fs::path state_;
    const std::string directory_url_;
    bool is_noted_ = false;  // whether the state names the CA
    const acme::key key_;
    std::optional<acme::client> client_;
    std::unique_ptr<acme_openssl_store_t, free_store> store_;
    std::mutex mutex_;  // guards the members below
    std::condition_variable changed_;
    std::optional<acme::certificate> cert_;
    acme::operation *operation_ = nullptr;
    bool renew_now_ = false, stopping_ = false;
    std::thread thread_;
};

// --- the server ---------------------------------------------------------------------------------

// Adds the pages of this server: "/" shows the serial number of the certificate, "/download?N" is N
// bytes long.
static void add_pages(httplib::Server &server, certificates &certs)
{
    server.Get("/", [&certs](const httplib::Request &, httplib::Response &response) {
        response.set_content("certificate " + certs.serial() + "\n", "text/plain");
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

static int run(const acme::client_options &options, std::vector<std::string> names,
               const fs::path &state, int port)
{
    // One thread waits for the signals. Every other thread inherits this mask, which blocks them.
    sigset_t signals;
    sigemptyset(&signals);
    for (const int number : {SIGHUP, SIGINT, SIGTERM})
        sigaddset(&signals, number);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    std::signal(SIGPIPE, SIG_IGN);

    certificates certs(options, std::move(names), state);
    httplib::SSLServer server([&certs](SSL_CTX &context) { return certs.attach(context); });
    add_pages(server, certs);
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
            certs.renew_now();
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
    fs::path state;
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
    mkdir(state.c_str(), 0700);
    return run(options, std::vector<std::string>(argv + i, argv + argc), state, port);
} catch (const std::exception &error) {
    std::cerr << "https_server-cpp: " << error.what() << "\n";
    return 1;
}
