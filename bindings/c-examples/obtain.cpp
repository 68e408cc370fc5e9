// obtain.cpp - obtains a certificate with the help of a web server that is there already, in C++17.
// (obtain.c does more.)
//
//   obtain-cpp DIRECTORY_URL WEBROOT OUT NAME...
//
// A web server serves the folder WEBROOT on port 80 of every NAME. The program writes account.pem, key.pem
// and chain.pem to the folder OUT, and uses again the keys that are there. It agrees to the CA's terms of
// service. The environment variable ACME_CA_FILE names a PEM file of the roots to trust for the CA's own
// HTTPS, instead of the system's.
//
// Exit status: 0 after success, 2 for wrong arguments, 3 after a permanent failure, 4 after a
// failure that a later run may avoid, 1 for errors of files.
#include <cstdlib>
#include <iostream>

#include "acme_micro.hpp"
#include "files.hpp"

int main(int argc, char **argv)
try {
    if (argc < 5) {
        std::cerr << "usage: obtain-cpp DIRECTORY_URL WEBROOT OUT NAME...\n";
        return 2;
    }
    const fs::path webroot = argv[2], out = argv[3];
    const acme::key unused = acme::key::generate();

    acme::client_options ca;
    ca.directory_url = argv[1];
    ca.account_key = &unused;
    ca.terms_agreed = true;
    if (const char *file = std::getenv("ACME_CA_FILE"))
        ca.ca_file = file;
    acme::order_options order;
    order.names.assign(argv + 4, argv + argc);
    acme::client(ca).begin_order(order);  // names that are refused leave no file and no key behind

    make_folders(out);
    const bool is_noted = is_for(out, argv[1]);
    const acme::key account = stored_key(out / "account.pem"), key = stored_key(out / "key.pem");
    ca.account_key = &account;
    order.key = &key;
    acme::handlers handlers;
    handlers.publish = [&](const acme::challenge &c) {
        const fs::path file = webroot / c.http_path.substr(1);
        make_folders(file.parent_path());
        save(file, 0644, c.key_authorization);
    };
    handlers.unpublish = [&](const acme::challenge &c) {
        fs::remove(webroot / c.http_path.substr(1));
    };

    const acme::certificate cert = acme::client(ca).obtain(order, handlers);
    if (!is_noted)
        note_ca(out, argv[1]);
    save(out / "chain.pem", 0644, cert.chain_pem());
    std::cout << cert.names().front() << ": " << cert.days_left() << " days\n";
    return 0;
} catch (const acme::error &error) {
    std::cerr << "obtain-cpp: " << error.what();
    if (error.status() == acme::status::account)  // deactivated
        std::cerr << "; for another account, rename account.pem";
    std::cerr << "\n";
    return error.permanent() ? 3 : 4;
} catch (const std::exception &error) {
    std::cerr << "obtain-cpp: " << error.what() << "\n";
    return 1;
}
