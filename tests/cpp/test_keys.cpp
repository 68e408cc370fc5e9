// Keys of acme_micro.hpp: in the process, and outside it.
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <fstream>
#include <sstream>

#include "pebble.hpp"

using namespace std::chrono_literals;
using std::chrono::system_clock;

static void s18_r12_keys()
{
    char directory[] = "/tmp/acme-cpp-XXXXXX";
    CHECK(mkdtemp(directory) != nullptr);
    const std::string file = std::string(directory) + "/key.pem";
    const acme::key key = acme::key::generate(acme::key_type::ed25519);
    CHECK(key.type() == acme::key_type::ed25519 && key.thumbprint().size() == 43);
    std::ofstream(file) << *key.pem();
    std::ostringstream text;
    text << std::ifstream(file).rdbuf();
    CHECK(acme::key::parse(text.str()).thumbprint() == key.thumbprint());
    std::remove(file.c_str());
    rmdir(directory);

    const std::string encrypted =
        shell("openssl pkcs8 -topk8 -v2 aes-256-cbc -passout pass:secret", *key.pem());
    CHECK(acme::key::parse_encrypted(encrypted, "secret").thumbprint() == key.thumbprint());
    THROWS(acme::crypto_error, "passphrase", acme::key::parse_encrypted(encrypted, "wrong"));
    THROWS(acme::invalid_argument, "NUL",
           acme::key::parse_encrypted(encrypted, std::string("a\0b", 3)));
    THROWS(acme::invalid_argument, "", acme::key::parse("no key"));
    THROWS(acme::invalid_argument, "", acme::key::parse(""));
    THROWS(acme::invalid_argument, "", acme::key::generate(static_cast<acme::key_type>(99)));

    // A key that spells out the parameters of its curve is one of that curve (row 12 of users' reports).
    const std::string made = shell("openssl ecparam -name secp384r1 -genkey -noout -param_enc explicit", "");
    const acme::key named = acme::key::parse(made);
    CHECK(has_text(shell("openssl pkey -noout -text", *named.pem()), "ASN1 OID: secp384r1"));
    const std::string request = shell("openssl req -new -key /dev/stdin -subj /CN=example.org", made);
    THROWS(acme::unsupported, "named_curve", acme::csr::parse(request));

    const acme::key outside = acme::key::from_public(shell("openssl pkey -pubout", *key.pem()));
    CHECK(!outside.pem() && outside.thumbprint() == key.thumbprint());
}

// Signs in place of an HSM.
static acme::bytes sign_with(EVP_PKEY *key, const acme::bytes &input)
{
    acme::bytes signature(512);
    std::size_t size = signature.size();
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    CHECK(EVP_DigestSignInit(context, nullptr, EVP_sha256(), nullptr, key) == 1);
    CHECK(EVP_DigestSign(context, signature.data(), &size, input.data(), input.size()) == 1);
    EVP_MD_CTX_free(context);
    signature.resize(size);
    return signature;
}

static void keys_elsewhere(web_server &web)
{
    const acme::key inside = acme::key::generate();
    const std::string_view pem = *inside.pem();
    BIO *bio = BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()));
    EVP_PKEY *evp = PEM_read_bio_PrivateKey(bio, nullptr, nullptr, nullptr);
    BIO_free(bio);
    const acme::key account = acme::key::from_public(shell("openssl pkey -pubout", pem));
    const acme::client ca(pebble_options(account));
    acme::handlers handlers = http01(web);
    int signatures = 0;

    handlers.sign = [&](const acme::sign_request &request) {
        signatures++;
        CHECK(request.algorithm == "ES256" && request.key_thumbprint == inside.thumbprint());
        return sign_with(evp, request.input);
    };
    verify(ca.obtain(order_for({"hsm.cpp.test"}), handlers), "hsm.cpp.test");
    CHECK(signatures > 3);

    // Polled step by step: signed_with() and sign_failed().
    acme::operation op = ca.begin_find_account();
    acme::step step;
    while ((step = op.poll()) != acme::step::done) {
        if (step == acme::step::request)
            op.send(op.request().id);
        else if (step == acme::step::sign)
            op.signed_with(op.sign_request().id, sign_with(evp, op.sign_request().input));
    }
    op = ca.begin_deactivate();
    while ((step = op.poll()) != acme::step::sign)
        if (step == acme::step::request)
            op.send(op.request().id);
    op.sign_failed(op.sign_request().id, "the token is gone");
    THROWS(acme::host_error, "the token is gone", op.poll());

    // In a driver: sign passes a signature, and then throws.
    acme::driver driver;
    acme::driver_handlers driven;
    std::optional<std::string> outcome;
    driven.done = [&](acme::operation &done) {
        outcome = done.error() ? done.error()->what() : "fine";
    };
    driven.sign = [&](acme::operation &signing) {
        const acme::sign_request request = signing.sign_request();
        signing.signed_with(request.id, sign_with(evp, request.input));
    };
    driver.add(ca.begin_find_account(), driven);
    CHECK(loop(driver).empty() && outcome == "fine");
    driven.sign = [](acme::operation &) { throw std::runtime_error("no PIN"); };
    driver.add(ca.begin_deactivate(), driven);
    CHECK(loop(driver) == std::vector<std::string>{"no PIN"} && has_text(*outcome, "no PIN"));

    handlers.sign = [](const acme::sign_request &) { return acme::bytes(513); };
    THROWS(acme::invalid_argument, "512", ca.begin_deactivate().run(handlers));
    int caught = 0;
    handlers.sign = [](const acme::sign_request &) -> acme::bytes { throw 42; };
    try {
        ca.begin_deactivate().run(handlers);
    } catch (int thrown) {
        caught = thrown;
    }
    CHECK(caught == 42);
    THROWS(acme::host_error, "sign", ca.begin_deactivate().run());
    EVP_PKEY_free(evp);
}

int main(int argc, char **argv)
{
    web_server web;
    return run_tests("test_keys", argc, argv,
                     {TEST(s18_r12_keys()),
                      TEST(keys_elsewhere(web))});
}
