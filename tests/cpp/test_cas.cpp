// A manager with several CAs, and with certificates on demand.
#include "pebble.hpp"

namespace {

const std::string not_a_ca = "https://127.0.0.1:1/directory";

acme::client client_at(const std::string &directory_url, const acme::store &store)
{
    acme::client_options options;

    options.directory_url = directory_url;
    options.ca_file = env("ACME_CA_FILE");
    options.store = &store;
    options.terms_agreed = true;
    return acme::client(options);
}

std::function<void(acme::operation &)> publish_at(web_server &web)
{
    return [&web](acme::operation &op) {
        for (const acme::challenge &c : op.challenges())
            web.put(c.http_path, c.key_authorization);
        op.published();
    };
}

// Runs a manager until it has obtained a certificate.
void until_obtained(const acme::manager &manager, const bool &obtained)
{
    acme::driver driver;

    manager.start(driver);
    for (int tries = 0; !obtained && tries < 1200; tries++) {
        pollfd readable = {driver.fd(), POLLIN, 0};
        if (poll(&readable, 1, 100) == 1)
            driver.dispatch();
    }
    CHECK(obtained);
}

void another_ca_takes_over()
{
    const acme::store store = acme::store::memory();
    const acme::client first = client_at(not_a_ca, store);
    const acme::client second = client_at(env("ACME_DIRECTORY"), store);
    web_server web;
    std::vector<std::string> cas;
    bool obtained = false;
    acme::manager_options options;
    options.client = &first;
    options.publish = publish_at(web);
    options.event = [&](const acme::manager_event &event) {
        if (event.type == acme::event_type::other_ca)
            CHECK(event.error && event.name == "one.cas-cpp.test");
        if (event.type == acme::event_type::ca_paused)
            CHECK(event.error && event.name.empty() && event.next_try);
        cas.push_back(event.ca);
        obtained = obtained || event.type == acme::event_type::obtained;
    };
    const acme::manager manager(options);
    THROWS(acme::invalid_argument, "this CA already", manager.add_ca(first));
    manager.add_ca(second);
    manager.add(order_for({"one.cas-cpp.test"}));
    THROWS(acme::misuse, "before the certificates", manager.add_ca(second));
    until_obtained(manager, obtained);
    CHECK(cas.size() == 3 && cas[0] == not_a_ca && cas[1] == not_a_ca);
    CHECK(cas[2] == env("ACME_DIRECTORY"));
    verify(manager.find("one.cas-cpp.test").value(), "one.cas-cpp.test");

    const std::string path = "/.well-known/acme-challenge/LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";
    const std::optional<std::string> body = manager.http01_answer(path);
    CHECK(body && body->size() == 87 && !manager.http01_answer("/"));
}

void on_demand()
{
    const acme::store store = acme::store::memory();
    const acme::client client = client_at(env("ACME_DIRECTORY"), store);
    web_server web;
    bool obtained = false;
    std::vector<std::string> asked;
    acme::manager_options options;
    options.client = &client;
    options.publish = publish_at(web);
    options.event = [&](const acme::manager_event &event) {
        obtained = obtained || event.type == acme::event_type::obtained;
    };
    const acme::manager manager(options);
    const auto ask = [&](const std::string &name) {
        asked.push_back(name);
        return name == "shop.cas-cpp.test";
    };
    THROWS(acme::invalid_argument, "no names yet", manager.on_demand(order_for({"a.test"}), ask));
    THROWS(acme::invalid_argument, "ask is empty", manager.on_demand(order_for({}), nullptr));
    manager.on_demand(order_for({}), ask);
    CHECK(!manager.find("stranger.cas-cpp.test") && !manager.find("shop.cas-cpp.test"));
    until_obtained(manager, obtained);
    CHECK(asked.size() == 2 && manager.count() == 1);
    verify(manager.find("shop.cas-cpp.test").value(), "shop.cas-cpp.test");
}

}  // namespace

int main(int argc, char **argv)
{
    return run_tests("test_cas", argc, argv, {TEST(another_ca_takes_over()), TEST(on_demand())});
}
