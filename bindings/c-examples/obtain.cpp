// obtain.cpp - obtains a certificate with the help of a web server that is there already, in C++17.
// (obtain.c does more.)
//
//   obtain-cpp DIRECTORY_URL WEBROOT OUT NAME...
//
// A web server serves the folder WEBROOT on port 80 of every NAME. The program keeps the account, the
// certificate (NAME.chain.pem, of the first NAME) and its key (NAME.key.pem) in the folder OUT, with
// acme::store: another run renews the certificate, and goes on with the order of a run that was killed. It
// agrees to the CA's terms of service. The environment variable ACME_CA_FILE names a PEM file of the roots
// to trust for the CA's own HTTPS, instead of the system's.
//
// Exit status: 0 after success, 2 for wrong arguments, 3 after a permanent failure, 4 after a
// failure that a later run may avoid, 1 for errors of files.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "acme_micro.hpp"

namespace fs = std::filesystem;

// Makes a folder and those above it, if they do not exist. Other users, such as a web server's, can enter the
// new folders, whatever the umask.
static void make_folders(const fs::path &path)
{
    if (path.empty() || fs::is_directory(path))
        return;
    make_folders(path.parent_path());
    if (fs::create_directory(path))
        fs::permissions(path, fs::perms(0755), fs::perm_options::add);
}

static void write_file(const fs::path &path, const std::string &text)
{
    make_folders(path.parent_path());
    fs::remove(path);  // a link is not followed
    std::ofstream file;
    file.exceptions(std::ios::failbit | std::ios::badbit);
    file.open(path, std::ios::binary);
    file << text;
    file.close();
    fs::permissions(path, fs::perms(0644), fs::perm_options::add);
}

int main(int argc, char **argv)
try {
    if (argc < 5) {
        std::cerr << "usage: obtain-cpp DIRECTORY_URL WEBROOT OUT NAME...\n";
        return 2;
    }
    const fs::path webroot = argv[2], out = argv[3];
    const acme::store unused = acme::store::memory();

    acme::client_options ca;
    ca.directory_url = argv[1];
    ca.store = &unused;
    ca.terms_agreed = true;
    if (const char *file = std::getenv("ACME_CA_FILE"))
        ca.ca_file = file;
    acme::order_options order;
    order.names.assign(argv + 4, argv + argc);
    acme::client(ca).begin_order(order);  // names that are refused leave no file behind

    make_folders(out);
    const acme::store store = acme::store::directory(out.string());
    ca.store = &store;
    acme::handlers handlers;
    handlers.publish = [&](const acme::challenge &c) {
        write_file(webroot / c.http_path.substr(1), c.key_authorization);
    };
    handlers.unpublish = [&](const acme::challenge &c) {
        fs::remove(webroot / c.http_path.substr(1));
    };

    const acme::certificate cert = acme::client(ca).obtain(order, handlers);
    std::cout << cert.names().front() << ": " << cert.days_left() << " days\n";
    return 0;
} catch (const acme::store_error &error) {
    std::cerr << "obtain-cpp: " << error.what() << "\n";
    return 1;
} catch (const acme::error &error) {
    std::cerr << "obtain-cpp: " << error.what();
    if (error.status() == acme::status::account)  // deactivated
        std::cerr << "; for another account, rename account.pem and account.url";
    std::cerr << "\n";
    return error.permanent() ? 3 : 4;
} catch (const std::exception &error) {
    std::cerr << "obtain-cpp: " << error.what() << "\n";
    return 1;
}
