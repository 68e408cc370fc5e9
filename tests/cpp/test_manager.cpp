// The manager: certificates that stay fresh by themselves.
#include "pebble.hpp"

#include <atomic>

namespace {

acme::client stored_client(const std::string &directory_url, const acme::store &store = acme::store::memory())
{
    acme::client_options options;

    options.directory_url = directory_url;
    options.ca_file = env("ACME_CA_FILE");
    options.store = &store;
    options.terms_agreed = true;
    return acme::client(options);
}

// The events that the handlers have seen.
struct seen {
    std::vector<acme::event_type> events;
    std::vector<std::string> served;
    std::string name, message;
    bool is_store_error = false;
    std::optional<acme::time_point> next_try;

    bool has(acme::event_type type) const
    {
        return std::find(events.begin(), events.end(), type) != events.end();
    }
};

acme::manager_options options_for(const acme::client &client, seen &seen)
{
    acme::manager_options options;
    options.client = &client;
    options.event = [&seen](const acme::manager_event &event) {
        seen.events.push_back(event.type);
        seen.name = event.name;
        seen.next_try = event.next_try;
        if (event.error)
            seen.message = event.error->what();
        seen.is_store_error = event.error && event.error->status() == acme::status::store;
        CHECK(event.cert.has_value() != event.error.has_value());
    };
    options.serve = [&seen](const acme::certificate &cert) {
        CHECK(cert.key().has_value());
        seen.served.push_back(cert.serial());
    };
    return options;
}

// Dispatches until the condition is true.
template <typename Condition> void until(acme::driver &driver, Condition condition)
{
    for (int tries = 0; !condition() && tries < 1200; tries++) {
        pollfd readable = {driver.fd(), POLLIN, 0};
        if (poll(&readable, 1, 100) == 1)
            driver.dispatch();
    }
    CHECK(condition());
}

void lives()
{
    const acme::client client = stored_client(env("ACME_DIRECTORY"));
    const web_server web(&client);
    const std::string name = "lives.manager-cpp.test";
    acme::driver driver;
    seen seen;
    acme::manager first(options_for(client, seen));
    acme::manager manager = std::move(first);

    THROWS(acme::misuse, "acme::manager is empty", first.count());
    manager.add(order_for({name}));
    CHECK(manager.count() == 1 && !manager.find(name));
    CHECK(has_text(manager.status(), "[{\"name\":\"lives.manager-cpp.test\",\"state\":"));
    manager.start(driver);
    THROWS(acme::misuse, "a driver already", manager.start(driver));
    until(driver, [&] { return seen.has(acme::event_type::obtained); });
    CHECK(seen.name == name && seen.next_try && seen.served.size() == 1);
    CHECK(has_text(manager.status(name), "\"state\":\"valid\""));
    CHECK(has_text(manager.metrics(), "acme_certificates{state=\"valid\"} 1\n"));
    const std::optional<acme::certificate> cert = manager.find("LIVES.manager-cpp.test");
    CHECK(cert && cert->serial() == seen.served[0]);
    verify(*cert, name);

    manager.renew(name);
    until(driver, [&] { return seen.has(acme::event_type::renewed); });
    CHECK(seen.served.size() == 2 && seen.served[0] != seen.served[1]);
    manager.remove(name);
    CHECK(manager.count() == 0 && !manager.find(name));
    THROWS(acme::invalid_argument, "no certificate", manager.renew(name));
    THROWS(acme::invalid_argument, "no certificate", manager.status(name));
    THROWS(acme::invalid_argument, "name has a NUL", manager.remove(std::string(1, '\0')));
}

// The handlers may publish, on another thread and after they have returned.
void publishes()
{
    const acme::client client = stored_client(env("ACME_DIRECTORY"));
    web_server web;
    acme::driver driver;
    seen seen;
    acme::manager_options options = options_for(client, seen);
    std::thread later;

    options.publish = [&](acme::operation &op) {
        for (const acme::challenge &c : op.challenges())
            web.put(c.http_path, c.key_authorization);
        later = std::thread([&op] { op.published(); });
    };
    options.unpublish = [&](acme::operation &op) {
        later.join();
        for (const acme::challenge &c : op.challenges())
            web.remove(c.http_path);
    };
    acme::manager manager(options);
    manager.add(order_for({"publishes.manager-cpp.test"}));
    manager.start(driver);
    until(driver, [&] { return seen.has(acme::event_type::obtained); });
    CHECK(web.size() == 0);
}

// Carries out an attempt, step by step.
void carry_out(acme::operation &op)
{
    for (acme::step step = op.poll(); step != acme::step::done; step = op.poll()) {
        if (step == acme::step::request)
            op.send(op.request().id);
        else if (step == acme::step::store)
            op.access_store();
        else if (step == acme::step::publish)
            op.published();
        else if (step == acme::step::wait)
            std::this_thread::sleep_for(op.wait().value_or(std::chrono::milliseconds(0)));
    }
}

// The program polls the manager itself.
void is_polled()
{
    const acme::client client = stored_client(env("ACME_DIRECTORY"));
    const web_server web(&client);
    const std::string name = "polled.manager-cpp.test";
    acme::driver driver;
    seen seen;
    acme::manager_options options = options_for(client, seen);
    const auto see = options.event;
    bool throws = true;
    int attempts = 0, threw = 0;

    options.event = [&](const acme::manager_event &event) {
        see(event);
        if (std::exchange(throws, false))
            throw my_failure{"not ready"};
    };
    acme::manager manager(options);
    manager.add(order_for({name}));
    while (!seen.has(acme::event_type::renewed)) {
        try {
            acme::manager_task task = manager.poll();
            CHECK(task.attempt.has_value() == (task.step == acme::manager_step::operation));
            if (task.step == acme::manager_step::load)
                manager.load();
            if (!task.attempt)
                continue;
            carry_out(*task.attempt);
            if (++attempts == 1)
                manager.renew(name);
        } catch (const my_failure &) {
            threw++;
        }
    }
    // The exception came with the second attempt, which was not lost.
    CHECK(attempts == 2 && threw == 1 && seen.served.size() == 2);
    CHECK(manager.poll().wait.count() > 0);
    THROWS(acme::misuse, "has not asked", manager.load());
    THROWS(acme::misuse, "acme_manager_poll()", manager.start(driver));
    acme::manager other(options_for(client, seen));
    other.start(driver);
    THROWS(acme::misuse, "a driver already", other.poll());
}

void throws_in_dispatch()
{
    const acme::client client = stored_client(env("ACME_DIRECTORY"));
    acme::driver driver;
    seen seen;
    acme::manager_options options = options_for(client, seen);

    options.publish = [](acme::operation &) { throw my_failure{"no web server"}; };
    acme::manager manager(options);
    manager.add(order_for({"throws.manager-cpp.test"}));
    manager.start(driver);
    std::string threw;
    try {
        until(driver, [] { return false; });
    } catch (const my_failure &failure) {
        threw = failure.what;
    }
    CHECK(threw == "no web server");
    until(driver, [&] { return seen.has(acme::event_type::failed); });
    CHECK(has_text(seen.message, "a handler threw") && seen.next_try);
}

void runs()
{
    const acme::client client = stored_client(env("ACME_DIRECTORY"));
    const web_server web(&client);
    seen seen;
    acme::manager_options options = options_for(client, seen);
    acme::manager *self = nullptr;

    options.serve = [&](const acme::certificate &) { self->stop(); };
    acme::manager manager(options);
    self = &manager;
    manager.add(order_for({"runs.manager-cpp.test"}));
    manager.run();
    CHECK(seen.has(acme::event_type::obtained));
}

// run() ends when a handler throws, and may run again.
void throws_in_run()
{
    const acme::client client = stored_client("https://127.0.0.1:1/directory");
    acme::manager_options options;
    int calls = 0;

    options.client = &client;
    options.event = [&](const acme::manager_event &) {
        calls++;
        throw my_failure{"the event"};
    };
    acme::manager manager(options);
    manager.add(order_for({"runs.manager-cpp.test"}));
    std::string threw;
    try {
        manager.run();
    } catch (const my_failure &failure) {
        threw = failure.what;
    }
    CHECK(threw == "the event");
    manager.stop();
    manager.run();
    CHECK(calls == 2);  // the CA is paused, and the attempt has failed
}

// A handler may destroy its manager, which lives until dispatch() returns.
void destroyed_by_its_handler()
{
    const acme::client client = stored_client("https://127.0.0.1:1/directory");
    acme::driver driver;
    std::optional<acme::manager> manager;
    acme::manager_options options;

    options.client = &client;
    options.event = [&](const acme::manager_event &event) {
        CHECK(has_text(event.error->what(), "127.0.0.1") && event.ca == "https://127.0.0.1:1/directory");
        manager.reset();
    };
    manager.emplace(options);
    manager->add(order_for({"destroyed.manager-cpp.test"}));
    manager->start(driver);
    until(driver, [&] { return !manager; });
    driver.dispatch();
}

void the_driver_goes_first()
{
    const acme::client client = stored_client(env("ACME_DIRECTORY"));
    seen seen;
    std::optional<acme::driver> driver(std::in_place);
    acme::manager manager(options_for(client, seen));

    manager.add(order_for({"first.manager-cpp.test"}));
    manager.start(*driver);
    driver->dispatch();
    driver.reset();
    CHECK(manager.count() == 1);
}

// The record stays as it is: a program of a newer version may read it again.
void g24_a_record_of_a_newer_version_is_left_alone()
{
    struct newer : acme::record_store {
        std::atomic<int> writes{0};
        std::optional<acme::record> get(const std::string &) override
        {
            return acme::record{1, "{\"format\":2}"};
        }
        std::uint64_t put(const std::string &, std::uint64_t, std::optional<std::string_view>) override
        {
            writes++;
            return 2;
        }
        std::vector<std::string> list(const std::string &, const std::string &, std::size_t) override { return {}; }
    };
    const auto records = std::make_shared<newer>();
    const acme::store store = acme::store::custom(records);
    const acme::client client = stored_client(env("ACME_DIRECTORY"), store);
    acme::driver driver;
    seen seen;
    acme::manager manager(options_for(client, seen));

    manager.add(order_for({"newer.manager-cpp.test"}));
    manager.start(driver);
    until(driver, [&] { return seen.has(acme::event_type::failed); });
    CHECK(has_text(seen.message, "a newer version of this library") && seen.is_store_error);
    CHECK(records->writes == 0 && !manager.find("newer.manager-cpp.test"));
}

void misuse()
{
    acme::manager_options options;
    THROWS(acme::invalid_argument, "client", acme::manager(options).count());
    const acme::key account = acme::key::generate();
    const acme::client client(pebble_options(account));
    options.client = &client;
    THROWS(acme::invalid_argument, "has no store", acme::manager(options).count());
    const acme::client stored = stored_client(env("ACME_DIRECTORY"));
    options.client = &stored;
    acme::manager manager(options);
    THROWS(acme::invalid_argument, "127.1", manager.add(order_for({"127.1"})));
    THROWS(acme::invalid_argument, "empty", manager.add(order_for({""})));
    THROWS(acme::invalid_argument, "names", manager.add(order_for({})));
    THROWS(acme::invalid_argument, "twice", manager.add(order_for({"a.test", "A.test."})));
    THROWS(acme::invalid_argument, "1000", manager.add(order_for(std::vector<std::string>(1001, "a.test"))));
    CHECK(manager.count() == 0);
}

}  // namespace

int main(int argc, char **argv)
{
    return run_tests("test_manager", argc, argv,
                     {TEST(lives()), TEST(publishes()), TEST(is_polled()),
                      TEST(throws_in_dispatch()), TEST(runs()), TEST(throws_in_run()),
                      TEST(destroyed_by_its_handler()),
                      TEST(the_driver_goes_first()), TEST(misuse()),
                      TEST(g24_a_record_of_a_newer_version_is_left_alone())});
}
