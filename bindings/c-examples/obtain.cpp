// obtain.cpp - obtains a certificate by the files of a web server, in C++17 (obtain.c does more).
//
//   obtain-cpp DIRECTORY_URL WEBROOT OUT NAME...
//
// A web server serves WEBROOT on port 80 of every NAME. OUT gets account.pem, key.pem and chain.pem;
// keys that are there are used again. You agree to the CA's terms of service. ACME_CA_FILE in the
// environment: roots to trust for the CA's own HTTPS, instead of the system's.
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>

#include "acme_micro.hpp"

namespace fs = std::filesystem;

static void store(const fs::path &path, std::string_view text)
{
    std::ofstream file;
    file.exceptions(std::ios::failbit | std::ios::badbit);
    file.open(path, std::ios::binary);
    file << text << std::flush;
}

static acme::key stored_key(const fs::path &path)
{
    if (fs::exists(path)) {  // one that cannot be read is no reason to make another
        std::ifstream file;
        file.exceptions(std::ios::failbit | std::ios::badbit);
        file.open(path, std::ios::binary);
        return acme::key::parse(std::string(std::istreambuf_iterator<char>(file), {}));
    }
    acme::key made = acme::key::generate();
    const mode_t mask = umask(077);  // for nobody else to read
    store(path, *made.pem());
    umask(mask);
    return made;
}

int main(int argc, char **argv)
try {
    if (argc < 5) {
        std::cerr << "usage: obtain-cpp DIRECTORY_URL WEBROOT OUT NAME...\n";
        return 2;
    }
    const fs::path webroot = argv[2], out = argv[3];
    fs::create_directories(out);
    const acme::key account = stored_key(out / "account.pem"), key = stored_key(out / "key.pem");

    acme::client_options ca;
    ca.directory_url = argv[1];
    ca.account_key = &account;
    ca.terms_agreed = true;
    if (const char *file = std::getenv("ACME_CA_FILE"))
        ca.ca_file = file;
    acme::order_options order;
    order.names.assign(argv + 4, argv + argc);
    order.key = &key;
    acme::handlers handlers;
    handlers.publish = [&](const acme::challenge &c) {
        const fs::path file = webroot / c.http_path.substr(1);
        fs::create_directories(file.parent_path());
        store(file, c.key_authorization);
    };
    handlers.unpublish = [&](const acme::challenge &c) {
        fs::remove(webroot / c.http_path.substr(1));
    };

    const acme::certificate cert = acme::client(ca).obtain(order, handlers);
    store(out / "chain.pem", cert.chain_pem());
    std::cout << cert.names().front() << ": " << cert.days_left() << " days\n";
    return 0;
} catch (const acme::error &error) {
    std::cerr << "obtain-cpp: " << error.what() << "\n";
    return error.permanent() ? 3 : 4;
} catch (const std::exception &error) {
    std::cerr << "obtain-cpp: " << error.what() << "\n";
    return 1;
}
