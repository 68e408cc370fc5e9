// Stores of acme_micro.hpp: a folder, memory, and the program's own functions.
#include <filesystem>

#include "pebble.hpp"

namespace fs = std::filesystem;

static acme::client client_of(const acme::store &store)
{
    acme::client_options options;
    options.directory_url = env("ACME_DIRECTORY");
    options.ca_file = env("ACME_CA_FILE");
    options.store = &store;
    options.terms_agreed = true;
    return acme::client(options);
}

static std::optional<acme::certificate> found(const acme::store &store, const std::string &name)
{
    return store.find(env("ACME_DIRECTORY"), name);
}

// --- a store of the program's own ---------------------------------------------------------------

class table : public acme::record_store {
public:
    explicit table(bool *freed) : freed_(freed) {}
    ~table() override { *freed_ = true; }

    std::optional<acme::record> get(const std::string &name) override
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (fails)
            throw std::runtime_error("the database is down");
        const auto known = records_.find(name);
        return known == records_.end() ? std::nullopt : std::optional(known->second);
    }

    std::uint64_t put(const std::string &name, std::uint64_t expected,
                      std::optional<std::string_view> value) override
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        const auto known = records_.find(name);
        if (fails)
            throw my_failure{"the database is down"};
        if ((known == records_.end() ? 0 : known->second.version) != expected)
            throw acme::store_conflict(acme::status::conflict, name);
        records_.erase(name);
        if (value)
            records_[name] = {++last_, std::string(*value)};
        return last_;
    }

    std::vector<std::string> list(const std::string &prefix, const std::string &after,
                                  std::size_t limit) override
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        std::vector<std::string> names;
        for (auto next = records_.upper_bound(std::max(prefix, after));
             next != records_.end() && names.size() < limit; ++next)
            if (next->first.compare(0, prefix.size(), prefix) == 0)
                names.push_back(next->first);
        return names;
    }

    std::atomic<bool> fails = false;

private:
    std::mutex mutex_;
    std::map<std::string, acme::record> records_;
    std::uint64_t last_ = 0;
    bool *freed_;
};

// --- tests --------------------------------------------------------------------------------------

// Obtains a certificate, reads it, does not renew it, renews it with a new key.
static void lives(const acme::store &store, const std::string &name, web_server &web)
{
    const acme::handlers http = http01(web);
    acme::order_options order = order_for({name});
    order.only_if_due = true;
    store.check();
    CHECK(store.claim("work"));
    store.release("work");
    CHECK(!found(store, name));
    const acme::certificate first = client_of(store).obtain(order, http);
    verify(first, name);
    CHECK(first.key() && first.is_for(*first.key()));
    CHECK(found(store, name)->serial() == first.serial());

    acme::client again = client_of(store);
    acme::operation op = again.begin_order(order);
    op.run(http);
    CHECK(op.renewal() && !op.order_url());
    CHECK(op.take_certificate()->serial() == first.serial());
    CHECK(again.account_url());

    order.only_if_due = false;
    order.new_key = true;
    order.key_type = acme::key_type::p384;
    const acme::certificate second = again.obtain(order, http);
    CHECK(second.key_type() == acme::key_type::p384);
    CHECK(found(store, name)->serial() == second.serial());

    order.stored_as = "Other Name";
    again.obtain(order, http);
    CHECK(found(store, "other name") && web.size() == 0);
}

static void in_memory(web_server &web) { lives(acme::store::memory(), "memory.cpp.test", web); }

static void in_a_folder(web_server &web)
{
    char folder[] = "/tmp/acme-cpp-XXXXXX";
    CHECK(mkdtemp(folder) != nullptr);
    const fs::path path = fs::path(folder) / "state";
    lives(acme::store::directory(path.string()), "folder.cpp.test", web);
    CHECK(fs::exists(path / "folder.cpp.test.key.pem"));
    CHECK(found(acme::store::directory(path.string()), "folder.cpp.test"));
    fs::remove_all(folder);
    THROWS(acme::store_error, "No such file", acme::store::directory("/nonexistent/folder"));
    THROWS(acme::invalid_argument, "NUL", acme::store::directory(std::string("a\0b", 3)));
}

static void own(web_server &web)
{
    bool freed = false;
    {
        const auto mine = std::make_shared<table>(&freed);
        const acme::store store = acme::store::custom(mine);
        lives(store, "own.cpp.test", web);
        acme::client ca = client_of(store);
        mine->fails = true;
        const auto error = THROWS(acme::store_error, "get function",
                                  ca.obtain(order_for({"own.cpp.test"}), http01(web)));
        CHECK(!error.permanent() && error.status() == acme::status::store);
        THROWS(acme::store_error, "get function", found(store, "own.cpp.test"));
    }
    CHECK(freed);
    THROWS(acme::invalid_argument, "nullptr", acme::store::custom(nullptr));
}

// Changes a bit in the middle of each certificate's record.
static void damage(table &records)
{
    for (const std::string &name : records.list("certificate/", "", 10)) {
        acme::record found = records.get(name).value();
        found.value[found.value.size() / 2] ^= 1;
        records.put(name, found.version, found.value);
    }
}

static void sealed(web_server &web)
{
    bool freed = false;
    const acme::sealing_key key = {1, 2, 3}, next = {4, 5, 6};
    {
        const auto mine = std::make_shared<table>(&freed);
        const auto over = [&](const acme::sealing_key &with, const acme::sealing_key *old = nullptr,
                              bool plain = false) {
            return acme::store::sealed(acme::store::custom(mine), with, old, plain);
        };
        const acme::store store = over(key);
        lives(store, "sealed.cpp.test", web);
        for (const std::string &name : mine->list("", "", 10))
            CHECK(mine->get(name)->value.compare(0, 14, "acme-sealed 1\n") == 0);
        THROWS(acme::store_error, "needs the key", found(over(next), "sealed.cpp.test"));
        THROWS(acme::store_error, "nothing was overwritten",
               client_of(over(next)).obtain(order_for({"sealed.cpp.test"}), http01(web)));
        THROWS(acme::store_error, "needs the key", over(next).reseal());
        over(next, &key).reseal();
        CHECK(found(over(next), "sealed.cpp.test") && !found(over(next), "no.cpp.test"));
        THROWS(acme::store_error, "needs the key", found(store, "sealed.cpp.test"));
        damage(*mine);
        THROWS(acme::store_error, "damaged", found(over(next), "sealed.cpp.test"));
        mine->fails = true;
        THROWS(acme::store_error, "get function", found(store, "sealed.cpp.test"));
    }
    CHECK(freed);
    const acme::store plain = acme::store::memory();
    client_of(plain).obtain(order_for({"plain.cpp.test"}), http01(web));
    THROWS(acme::store_error, "not sealed", found(acme::store::sealed(plain, key), "plain.cpp.test"));
    acme::store::sealed(plain, key, nullptr, true).reseal();
    CHECK(found(acme::store::sealed(plain, key), "plain.cpp.test"));
    THROWS(acme::misuse, "sealed", plain.reseal());
    THROWS(acme::invalid_argument, "bytes of the key", acme::store::sealed(plain, {}));
}

static void each_step()
{
    const acme::store store = acme::store::memory();
    const acme::client ca = client_of(store);
    acme::operation op = ca.begin_order(order_for({"steps.cpp.test"}));
    THROWS(acme::misuse, "does not wait", op.access_store());
    int accesses = 0;
    while (op.poll() == acme::step::store) {
        accesses++;
        op.access_store();
    }
    CHECK(accesses >= 3 && op.request().method == "GET");
}

static void on_a_loop(web_server &web)
{
    bool freed = false;
    std::string serial;
    acme::store store = acme::store::custom(std::make_shared<table>(&freed));
    const acme::client ca = client_of(store);
    {
        acme::driver driver;
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
        with.done = [&](acme::operation &op) { serial = op.take_certificate()->serial(); };
        driver.add(ca.begin_order(order_for({"loop.cpp.test"})), with);
        CHECK(loop(driver).empty());
    }
    CHECK(!serial.empty() && found(store, "loop.cpp.test")->serial() == serial);
}

static void refused(const acme::key &account)
{
    const acme::store store = acme::store::memory();
    acme::client_options options = pebble_options(account);
    options.store = &store;
    CHECK(!acme::client{options}.account_url());  // the store keeps only the certificates
    options.account_key = nullptr;
    options.account_url = "https://127.0.0.1/account/1";
    THROWS(acme::invalid_argument, "from the store", acme::client{options});
    acme::order_options order = order_for({"refused.cpp.test"});
    order.order_url = "https://127.0.0.1/order/1";
    THROWS(acme::invalid_argument, "order_url", client_of(store).begin_order(order));
    order = order_for({"refused.cpp.test"});
    order.new_key = true;
    THROWS(acme::invalid_argument, "new_key",
           acme::client(pebble_options(account)).begin_order(order));
}

int main(int argc, char **argv)
{
    web_server web;
    const acme::key account = acme::key::generate();
    return run_tests("test_store", argc, argv,
                     {TEST(in_memory(web)), TEST(in_a_folder(web)), TEST(own(web)),
                      TEST(sealed(web)),
                      TEST(each_step()), TEST(on_a_loop(web)), TEST(refused(account))});
}
