// A server for challenges (serves http-01, sets DNS records), and checks by the openssl program.
#ifndef PEBBLE_HPP
#define PEBBLE_HPP

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <map>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "check.hpp"

class tcp_socket {
public:
    explicit tcp_socket(int fd) : fd_(fd) {}
    tcp_socket(const tcp_socket &) = delete;
    tcp_socket &operator=(const tcp_socket &) = delete;
    ~tcp_socket() { close(fd_); }

    int fd() const { return fd_; }

    std::string receive() const
    {
        char data[4096];
        const ssize_t size = recv(fd_, data, sizeof data, 0);
        return size > 0 ? std::string(data, static_cast<std::size_t>(size)) : std::string();
    }

    void send_all(std::string_view data) const
    {
        while (!data.empty()) {
            const ssize_t sent = send(fd_, data.data(), data.size(), MSG_NOSIGNAL);
            if (sent <= 0)
                return;
            data.remove_prefix(static_cast<std::size_t>(sent));
        }
    }

private:
    int fd_;
};

inline sockaddr_in loopback(const std::string &port)
{
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(std::stoi(port)));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

// http-01: a thread that serves a table of the published challenges, or those of a client.
class web_server {
public:
    explicit web_server(const acme::client *client = nullptr)
        : client_(client), listener_(socket(AF_INET, SOCK_STREAM, 0))
    {
        const sockaddr_in address = loopback(env("PEBBLE_HTTP_PORT"));
        const int on = 1;
        setsockopt(listener_.fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (bind(listener_.fd(), reinterpret_cast<const sockaddr *>(&address), sizeof address) ||
            listen(listener_.fd(), 64))
            throw std::runtime_error("cannot listen on PEBBLE_HTTP_PORT");
        thread_ = std::thread([this] { serve(); });
    }

    ~web_server()
    {
        shutdown(listener_.fd(), SHUT_RDWR);
        thread_.join();
    }

    void put(const std::string &path, const std::string &body)
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        table_[path] = body;
    }

    void remove(const std::string &path)
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        table_.erase(path);
    }

    // Returns the number of published challenges.
    std::size_t size()
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        return table_.size();
    }

private:
    void serve()
    {
        for (;;) {
            const int fd = accept(listener_.fd(), nullptr, nullptr);
            if (fd < 0)
                return;
            const tcp_socket visitor(fd);
            const std::string request = visitor.receive();
            const std::size_t start = request.find(' ') + 1;
            const std::string path = request.substr(start, request.find(' ', start) - start);
            const std::optional<std::string> body = find(path);
            visitor.send_all(body ? "HTTP/1.0 200 OK\r\n\r\n" + *body
                                  : "HTTP/1.0 404 Not Found\r\n\r\n");
        }
    }

    std::optional<std::string> find(const std::string &path)
    {
        if (client_)
            return client_->http01_answer(path);
        const std::lock_guard<std::mutex> lock(mutex_);
        const auto found = table_.find(path);
        return found == table_.end() ? std::nullopt : std::make_optional(found->second);
    }

    const acme::client *client_;
    tcp_socket listener_;
    std::mutex mutex_;
    std::map<std::string, std::string> table_;
    std::thread thread_;
};

// dns-01: sets or clears a record at Pebble's challenge test server. Throws if the server refuses it.
inline void dns_post(const std::string &path, const std::string &name, const std::string &value)
{
    const std::string url = env("PEBBLE_CHALLTESTSRV");
    const sockaddr_in address = loopback(url.substr(url.rfind(':') + 1));
    const std::string body = "{\"host\":\"" + name + ".\",\"value\":\"" + value + "\"}";
    const tcp_socket server(socket(AF_INET, SOCK_STREAM, 0));

    if (connect(server.fd(), reinterpret_cast<const sockaddr *>(&address), sizeof address) == 0)
        server.send_all("POST " + path + " HTTP/1.0\r\nContent-Length: " +
                        std::to_string(body.size()) + "\r\n\r\n" + body);
    if (!has_text(server.receive(), " 200 "))
        throw std::runtime_error("the DNS server did not take " + name);
}

// Runs a shell command with data on its standard input; it has to succeed. Returns its output.
inline std::string shell(const std::string &command, std::string_view data)
{
    char file[] = "/tmp/acme-cpp-XXXXXX", part[4096];
    const int fd = mkstemp(file);
    std::string output;

    CHECK(write(fd, data.data(), data.size()) == static_cast<ssize_t>(data.size()));
    close(fd);
    FILE *pipe = popen(("(" + command + ") <" + file + " 2>&1").c_str(), "r");
    for (std::size_t got; pipe && (got = fread(part, 1, sizeof part, pipe)) > 0;)
        output.append(part, got);
    const int status = pipe ? pclose(pipe) : -1;
    unlink(file);
    count(status == 0, command.c_str(), status, output);
    return output;
}

// Checks that the certificate's chain ends at Pebble's root, and that it is for this name.
inline void verify(const acme::certificate &cert, const std::string &name)
{
    // Linux opens /dev/stdin as a new file each time, so both reads begin at its start.
    const std::string output = shell("openssl verify -CAfile '" + env("PEBBLE_ROOT") +
                                         "' -untrusted /dev/stdin /dev/stdin && "
                                         "openssl x509 -noout -ext subjectAltName",
                                     cert.chain_pem());
    count(has_text(output, "DNS:" + name), "openssl", 0, output);
}

// --- what the tests share ------------------------------------------------------------------------

inline acme::client_options pebble_options(const acme::key &account)
{
    acme::client_options options;
    options.directory_url = env("ACME_DIRECTORY");
    options.ca_file = env("ACME_CA_FILE");
    options.account_key = &account;
    options.terms_agreed = true;
    options.user_agent = "cpp-test/1";
    return options;
}

inline acme::order_options order_for(std::vector<std::string> names)
{
    acme::order_options order;
    order.names = std::move(names);
    return order;
}

inline acme::handlers http01(web_server &web)
{
    acme::handlers made;
    made.publish = [&web](const acme::challenge &c) { web.put(c.http_path, c.key_authorization); };
    made.unpublish = [&web](const acme::challenge &c) { web.remove(c.http_path); };
    return made;
}

inline acme::handlers dns01()
{
    acme::handlers made;
    made.publish = [](const acme::challenge &c) { dns_post("/set-txt", c.dns_name, c.dns_value); };
    made.unpublish = [](const acme::challenge &c) { dns_post("/clear-txt", c.dns_name, ""); };
    return made;
}

// An exception that is not a std::exception.
struct my_failure {
    std::string what;
};

// Runs the event loop of a host until the driver is empty. Returns the exceptions of dispatch().
inline std::vector<std::string> loop(acme::driver &driver)
{
    std::vector<std::string> threw;
    while (driver && driver.count() > 0) {
        pollfd readable = {driver.fd(), POLLIN, 0};
        CHECK(poll(&readable, 1, 60000) == 1);
        try {
            driver.dispatch();
        } catch (const my_failure &failure) {
            threw.push_back(failure.what);
        } catch (const std::exception &error) {
            threw.push_back(error.what());
        }
    }
    return threw;
}

#endif
