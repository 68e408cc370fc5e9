//! The C ABI. Every exported function is: check, convert, call, convert back; nothing about ACME
//! is decided here. This folder has the library's only unsafe code, most of it in `convert.rs`,
//! `guard.rs` and `handle.rs`.
#![cfg(feature = "capi")]
#![allow(unsafe_code, non_camel_case_types, clippy::missing_safety_doc)]

mod authorization;
mod begin;
mod cert;
mod client;
mod convert;
mod csr;
mod driver;
mod error;
mod files;
mod guard;
mod handle;
mod http_client;
mod key;
mod log;
mod manager;
mod manager_poll;
mod next_try;
mod op;
mod op_response;
mod op_result;
mod outcome;
mod run;
mod signals;
mod status;
mod store;
mod types;
mod version;
mod views;
