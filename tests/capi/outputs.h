/* A variable for each output that a function may have, for tests that call all of them. */
#ifndef OUTPUTS_H
#define OUTPUTS_H

#include "check.h"

static char untouched;
static acme_key_t *out_key;
static acme_csr_t *out_csr;
static acme_cert_t *out_cert;
static acme_client_t *out_client;
static acme_op_t *out_op;
static acme_driver_t *out_driver;
static acme_store_t *out_store;
static acme_manager_t *out_manager;

/* Fills the outputs with a pattern, which shows later which of them were written. */
static inline void touch_outputs(void)
{
    out_key = (acme_key_t *)&untouched;
    out_csr = (acme_csr_t *)&untouched;
    out_cert = (acme_cert_t *)&untouched;
    out_client = (acme_client_t *)&untouched;
    out_op = (acme_op_t *)&untouched;
    out_driver = (acme_driver_t *)&untouched;
    out_store = (acme_store_t *)&untouched;
    out_manager = (acme_manager_t *)&untouched;
}

#endif
