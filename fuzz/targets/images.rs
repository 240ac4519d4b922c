//! See `naive_ptq_fuzz::images`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    naive_ptq_fuzz::images(data);
});
