// Handlers and drivers of acme_micro.hpp: exceptions, threads, cancellation, destruction.
#include <algorithm>
#include <atomic>

#include "pebble.hpp"

using namespace std::chrono_literals;
using std::chrono::system_clock;

// --- handlers -----------------------------------------------------------------------------------

static void y06_thrown_by_handlers(const acme::client &ca, web_server &web)
{
    int number = 0;
    const auto fresh = [&] {  // order for names that have no authorization yet
        return order_for({"thrown" + std::to_string(++number) + ".cpp.test",
                          "thrown" + std::to_string(++number) + ".cpp.test"});
    };
    const auto threw = [&](const acme::handlers &with) {
        try {
            ca.obtain(fresh(), with);
        } catch (const my_failure &failure) {
            return failure.what;
        } catch (const std::exception &error) {
            return std::string(error.what());
        }
        return std::string();
    };
    acme::handlers with = http01(web);
    int taken_down = 0;

    // The second publish throws: the first challenge is published, and unpublish is called for both.
    int published = 0;
    with.publish = [&](const acme::challenge &c) {
        http01(web).publish(c);
        if (++published == 2)
            throw my_failure{"in publish"};
    };
    with.unpublish = [&](const acme::challenge &c) {
        taken_down++;
        http01(web).unpublish(c);
    };
    CHECK(threw(with) == "in publish" && published == 2 && taken_down == 2 && web.size() == 0);

    // The first exception is thrown, even if unpublish throws, too.
    with.unpublish = [&](const acme::challenge &c) {
        http01(web).unpublish(c);
        throw my_failure{"in unpublish"};
    };
    published = 1;
    CHECK(threw(with) == "in publish" && web.size() == 0);

    // An exception of unpublish is only logged; the certificate is issued.
    std::atomic<int> warnings{0};
    acme::set_log_callback([&](acme::log_level level, std::string_view line) {
        if (level == acme::log_level::warn && has_text(line, "unpublish"))
            warnings++;
        throw my_failure{"in the log"};
    }, acme::log_level::trace);
    with.publish = http01(web).publish;
    CHECK(threw(with).empty() && warnings == 2 && web.size() == 0);
    acme::set_log_callback(nullptr);
    CHECK(threw(with).empty() && warnings == 2);

    // An exception of send ends the operation without a retry, and the challenges are removed.
    with = http01(web);
    int sent = 0, after = 0;
    bool in_place = false;
    with.publish = [&](const acme::challenge &c) {
        in_place = true;
        http01(web).publish(c);
    };
    with.send = [&](acme::operation &op, const acme::http_request &request) {
        sent++;
        after += in_place;
        if (in_place)
            throw my_failure{"in send"};
        op.send(request.id);
    };
    CHECK(threw(with) == "in send" && sent > 3 && after == 1 && web.size() == 0);

    // A request without a response is no exception: the library retries it.
    int refused = 0;
    with = http01(web);
    with.send = [&](acme::operation &op, const acme::http_request &request) {
        if (refused++ == 0)
            op.response_failed(request.id, "not yet");
        else
            op.send(request.id);
    };
    CHECK(threw(with).empty() && refused > 3);

    // While an operation runs, poll() and run() are misuse, but it may be destroyed.
    acme::operation op = ca.begin_order(fresh());
    with = http01(web);
    with.publish = [&](const acme::challenge &) { op.poll(); };
    THROWS(acme::misuse, "acme_op_run", op.run(with));
    op = ca.begin_order(fresh());
    with.publish = [&](const acme::challenge &) { op.run(); };
    THROWS(acme::misuse, "acme_op_run", op.run(with));
    auto doomed = std::make_unique<acme::operation>(ca.begin_order(fresh()));
    with.publish = [&](const acme::challenge &c) {
        doomed.reset();
        http01(web).publish(c);
    };
    acme::operation &dangling = *doomed;
    dangling.run(with);
    CHECK(!doomed && web.size() == 0);

    with.publish = nullptr;
    CHECK(has_text(threw(with), "publish callback"));
}

// --- drivers ------------------------------------------------------------------------------------

static void drivers(const acme::client &ca, web_server &web)
{
    acme::driver_options few;
    few.max_threads = 3;
    few.max_requests_per_ca = 2;
    acme::driver driver(few);
    std::vector<acme::certificate> certs;
    std::vector<std::string> failures;
    acme::driver_handlers with;
    with.publish = [&](acme::operation &op) {
        for (const acme::challenge &c : op.challenges())
            web.put(c.http_path, c.key_authorization);
        op.published();
    };
    with.unpublish = [&](acme::operation &op) {
        for (const acme::challenge &c : op.challenges())
            web.remove(c.http_path);
    };
    with.done = [&](acme::operation &op) {
        if (const auto error = op.error())
            failures.emplace_back(error->what());
        else
            certs.push_back(op.take_certificate().value());
    };

    // Several operations at the same time; one publishes later, on another thread.
    std::thread later;
    acme::driver_handlers slowly = with;
    slowly.publish = [&](acme::operation &op) {
        later = std::thread([&] {
            std::this_thread::sleep_for(50ms);
            with.publish(op);
        });
    };
    for (int i = 0; i < 5; i++)
        driver.add(ca.begin_order(order_for({"driven" + std::to_string(i) + ".cpp.test"})),
                   i ? with : slowly);
    CHECK(driver.count() == 5);
    CHECK(loop(driver).empty() && certs.size() == 5 && failures.empty() && web.size() == 0);
    later.join();
    verify(certs.at(0), certs.at(0).names().at(0));

    // An exception of publish is the operation's error, and dispatch() throws it. The other operation
    // continues.
    acme::driver_handlers throws = with;
    throws.publish = [&](acme::operation &op) {
        with.publish(op);
        throw my_failure{"in publish"};
    };
    driver.add(ca.begin_order(order_for({"driven5.cpp.test"})), throws);  // in place: no failure
    throws.publish = [](acme::operation &) { throw std::logic_error("in publish, too"); };
    driver.add(ca.begin_order(order_for({"driven6.cpp.test"})), throws);
    throws = with;
    throws.done = [&](acme::operation &op) {
        with.done(op);
        throw my_failure{"in done"};
    };
    throws.unpublish = [&](acme::operation &op) {
        with.unpublish(op);
        throw my_failure{"in unpublish"};
    };
    driver.add(ca.begin_order(order_for({"driven7.cpp.test"})), throws);
    const std::vector<std::string> threw = loop(driver);
    const auto has = [&](const char *text) {
        return std::count(threw.begin(), threw.end(), text) == 1;
    };
    // If there are two exceptions in one dispatch(), it throws the first.
    CHECK(has("in publish") + has("in publish, too") + has("in done") + has("in unpublish") >= 2);
    CHECK(certs.size() == 7 && failures.size() == 1 && web.size() == 0);
    CHECK(has_text(failures.at(0), "in publish, too"));

    // Canceled by its reference, which is valid until done has returned.
    acme::operation &op = driver.add(ca.begin_order(order_for({"driven8.cpp.test"})), with);
    op.cancel();
    CHECK(loop(driver).empty() && failures.size() == 2 && has_text(failures.at(1), "canceled"));

    // A driver is destroyed with operations in it, and by a handler.
    driver.add(ca.begin_order(order_for({"driven9.cpp.test"})), throws);
    driver = acme::driver();
    CHECK(failures.size() == 3 && driver.count() == 0);
    acme::driver moved = std::move(driver);
    THROWS(acme::misuse, "acme::driver", driver.dispatch());  // NOLINT
    THROWS(acme::misuse, "acme::driver", driver.add(ca.begin_register(), with));
    throws = with;
    throws.done = [&](acme::operation &finished) {
        with.done(finished);
        const acme::driver gone = std::move(moved);
    };
    moved.add(ca.begin_order(order_for({"driven10.cpp.test"})), throws);
    CHECK(loop(moved).empty() && !moved && certs.size() == 8);  // NOLINT

    acme::driver third;
    THROWS(acme::invalid_argument, "done", third.add(ca.begin_register(), {}));
    few.max_threads = 1000;
    THROWS(acme::invalid_argument, "max_threads", acme::driver{few});
}

static void respond_with()
{
    // Pebble does not offer the types with a payload, so this only checks the errors for other challenges.
    const acme::key key = acme::key::generate();
    acme::client_options options = pebble_options(key);
    const acme::client ca(options);
    acme::operation op = ca.begin_order(order_for({"payload.cpp.test"}));
    acme::step step;
    while ((step = op.poll()) != acme::step::publish) {
        if (step == acme::step::request)
            op.send(op.request().id);
        else
            std::this_thread::sleep_for(op.wait().value_or(20ms));
    }
    CHECK(op.poll() == acme::step::wait && !op.wait());  // no time limit while the host publishes
    acme::challenge made_up;
    THROWS(acme::invalid_argument, "challenge", op.respond_with(made_up, "{}"));
    const auto why = THROWS(acme::error, "", op.respond_with(op.challenges().at(0), "{}"));
    CHECK(!has_text(why.what(), "is not one that op shows"));
    op.publish_failed("no such thing here");
    CHECK(op.poll() == acme::step::unpublish);
    THROWS(acme::host_error, "no such thing here", op.poll());
}

static void cancel_from_another_thread(const acme::client &ca, web_server &web)
{
    acme::operation op = ca.begin_order(order_for({"cancel.cpp.test"}));
    std::atomic<bool> publishing{false};
    acme::handlers with = http01(web);
    std::thread other([&] {
        while (!publishing)
            std::this_thread::sleep_for(1ms);
        op.cancel();
        publishing = false;
    });
    with.publish = [&](const acme::challenge &c) {
        http01(web).publish(c);
        publishing = true;
        while (publishing)
            std::this_thread::sleep_for(1ms);
    };
    THROWS(acme::canceled, "", op.run(with));
    other.join();
    CHECK(op.error()->status() == acme::status::canceled && web.size() == 0);
}

static void threads_share_a_client(const acme::client &ca, web_server &web)
{
    std::vector<std::thread> threads;
    std::atomic<int> obtained{0};

    for (int i = 0; i < 4; i++)
        threads.emplace_back([&, i] {
            const std::string name = "t" + std::to_string(i) + ".cpp.test";
            if (ca.obtain(order_for({name}), http01(web)).names().at(0) == name)
                obtained++;
        });
    for (std::thread &thread : threads)
        thread.join();
    CHECK(obtained == 4 && web.size() == 0);
}

static void stateless_http01(const acme::key &account, const acme::client &ca)
{
    const std::string token = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";
    const std::string path = "/.well-known/acme-challenge/" + token;
    CHECK(acme::http01_answer(account.thumbprint(), path) == token + "." + account.thumbprint());
    CHECK(!acme::http01_answer(account.thumbprint(), "/index.html"));
    CHECK(!ca.http01_answer(path));
    acme::handlers with;
    with.publish = [&](const acme::challenge &c) {
        CHECK(ca.http01_answer(c.http_path) == c.key_authorization);
        throw std::runtime_error("enough");
    };
    THROWS(std::runtime_error, "enough", ca.obtain(order_for({"stateless.cpp.test"}), with));
}

int main(int argc, char **argv)
{
    web_server web;
    const acme::key account = acme::key::generate();
    const acme::client ca(pebble_options(account));
    return run_tests("test_handlers", argc, argv,
                     {TEST(y06_thrown_by_handlers(ca, web)),
                      TEST(drivers(ca, web)),
                      TEST(respond_with()),
                      TEST(cancel_from_another_thread(ca, web)),
                      TEST(threads_share_a_client(ca, web)),
                      TEST(stateless_http01(account, ca))});
}
