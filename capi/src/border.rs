//! What C calls: pointers become references, failures become a status and a text, and panics end here.
//! `include/naive_ptq.h` says what each function does.
//!
//! # Safety
//!
//! Of every function: pointers are null, which is refused, or point to what the header says, and nobody else writes
//! there meanwhile. Handles come from this library and have not been freed.
#![allow(unsafe_code)]
#![allow(missing_docs, clippy::missing_safety_doc)] // the header and this page say it

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::ptr::{null, null_mut};
use std::slice::{from_raw_parts, from_raw_parts_mut};
use std::sync::Arc;

use crate::network;
use crate::{Edge, Failure, Network, Session, Status};

/// As `naive_ptq_value` in the header.
#[repr(C)]
#[derive(Debug)]
pub struct Value {
    pub name: *const c_char,
    pub shape: *const usize,
    pub rank: usize,
    pub count: usize,
    pub bits: u32,
    pub is_unsigned: i32,
    pub scale: f32,
    pub zero_point: i32,
}

type Handle = Arc<Network>;

thread_local! {
    static ERROR: RefCell<CString> = RefCell::default();
}

/// What `call` returns, and what it says if it fails or panics.
fn status(call: impl FnOnce() -> Result<(), Failure>) -> Status {
    let failed = catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| Err(fault(&*panic)));
    let Err(Failure { status, text }) = failed else { return Status::Ok };
    let text = CString::new(text.replace('\0', "\\0")).unwrap_or_default();
    // At the end of a thread there is no place for it any more.
    let _ = ERROR.try_with(|error| error.replace(text));
    status
}

fn fault(panic: &(dyn Any + Send)) -> Failure {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
    Failure::new(Status::Fault, format!("a fault of the library: {}", text.replace('\n', " ")))
}

fn is_null(what: &str) -> Failure {
    Failure::new(Status::Argument, format!("\"{what}\" is null"))
}

unsafe fn shared<'a, T>(pointer: *const T, what: &str) -> Result<&'a T, Failure> {
    // SAFETY: null or valid, as the head of this file asks.
    unsafe { pointer.as_ref() }.ok_or_else(|| is_null(what))
}

unsafe fn unique<'a, T>(pointer: *mut T, what: &str) -> Result<&'a mut T, Failure> {
    // SAFETY: null or valid, as the head of this file asks.
    unsafe { pointer.as_mut() }.ok_or_else(|| is_null(what))
}

/// The place of a result, which is null from now on.
unsafe fn place<'a, T>(pointer: *mut *mut T, what: &str) -> Result<&'a mut *mut T, Failure> {
    if pointer.is_null() {
        return Err(is_null(what));
    }
    // SAFETY: a place for a pointer, as the head of this file asks; what is there need not be initialized.
    unsafe {
        pointer.write(null_mut());
        Ok(&mut *pointer)
    }
}

unsafe fn text<'a>(pointer: *const c_char, what: &str) -> Result<&'a CStr, Failure> {
    match pointer.is_null() {
        true => Err(is_null(what)),
        // SAFETY: a string that ends with 0, as the head of this file asks.
        false => Ok(unsafe { CStr::from_ptr(pointer) }),
    }
}

/// An array may be null, lie where none can, or be larger than any object, as one of −1 elements.
fn check<T>(pointer: *const T, count: usize, what: &str) -> Result<(), Failure> {
    if pointer.is_null() {
        return Err(is_null(what));
    }
    if !pointer.is_aligned() {
        let text = format!("\"{what}\" is not aligned: its numbers have {} bytes", size_of::<T>());
        return Err(Failure::new(Status::Argument, text));
    }
    match count.checked_mul(size_of::<T>()).is_some_and(|bytes| isize::try_from(bytes).is_ok()) {
        true => Ok(()),
        false => Err(Failure::new(Status::Shape, format!("\"{what}\" has no size of {count}"))),
    }
}

unsafe fn slice<'a, T>(pointer: *const T, count: usize, what: &str) -> Result<&'a [T], Failure> {
    check(pointer, count, what)?;
    // SAFETY: so many of them are there, as the head of this file asks.
    Ok(unsafe { from_raw_parts(pointer, count) })
}

unsafe fn slice_mut<'a, T>(
    pointer: *mut T,
    count: usize,
    what: &str,
) -> Result<&'a mut [T], Failure> {
    check(pointer, count, what)?;
    // SAFETY: so many of them are there, as the head of this file asks.
    Ok(unsafe { from_raw_parts_mut(pointer, count) })
}

#[cfg(unix)]
fn path(text: &CStr) -> Result<&Path, Failure> {
    use std::os::unix::ffi::OsStrExt;
    Ok(Path::new(std::ffi::OsStr::from_bytes(text.to_bytes())))
}

#[cfg(not(unix))]
fn path(text: &CStr) -> Result<&Path, Failure> {
    let text = text.to_str();
    text.map(Path::new).map_err(|_| Failure::new(Status::Argument, "\"path\" is no UTF-8"))
}

#[unsafe(no_mangle)]
pub extern "C" fn naive_ptq_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

#[unsafe(no_mangle)]
pub extern "C" fn naive_ptq_error() -> *const c_char {
    ERROR.try_with(|error| error.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn naive_ptq_load(
    file: *const c_char,
    threads: usize,
    network: *mut *mut Handle,
) -> Status {
    // SAFETY: as the head of this file asks.
    status(|| unsafe {
        let place = place(network, "network")?;
        let loaded = Network::load(path(text(file, "path")?)?, threads)?;
        *place = Box::into_raw(Box::new(Arc::new(loaded)));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn naive_ptq_load_bytes(
    bytes: *const c_void,
    size: usize,
    threads: usize,
    network: *mut *mut Handle,
) -> Status {
    // SAFETY: as the head of this file asks.
    status(|| unsafe {
        let place = place(network, "network")?;
        let loaded = Network::from_bytes(slice(bytes.cast(), size, "bytes")?, threads)?;
        *place = Box::into_raw(Box::new(Arc::new(loaded)));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn naive_ptq_free(network: *mut Handle) {
    status(|| {
        // SAFETY: from `into_raw`, and given back once, as the head of this file asks.
        drop((!network.is_null()).then(|| unsafe { Box::from_raw(network) }));
        Ok(())
    });
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn naive_ptq_metadata(
    network: *const Handle,
    key: *const c_char,
) -> *const c_char {
    let mut found = null();
    // SAFETY: as the head of this file asks.
    status(|| unsafe {
        let value = shared(network, "network")?.metadata(text(key, "key")?);
        found = value.map_or(null(), CStr::as_ptr);
        Ok(())
    });
    found
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn naive_ptq_inputs(network: *const Handle) -> usize {
    // SAFETY: null or valid, as the head of this file asks.
    unsafe { network.as_ref() }.map_or(0, |network| network.count(Edge::Input))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn naive_ptq_outputs(network: *const Handle) -> usize {
    // SAFETY: null or valid, as the head of this file asks.
    unsafe { network.as_ref() }.map_or(0, |network| network.count(Edge::Output))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn naive_ptq_input(
    network: *const Handle,
    index: usize,
    value: *mut Value,
) -> Status {
    // SAFETY: as the head of this file asks.
    status(|| unsafe { describe(network, Edge::Input, index, value) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn naive_ptq_output(
    network: *const Handle,
    index: usize,
    value: *mut Value,
) -> Status {
    // SAFETY: as the head of this file asks.
    status(|| unsafe { describe(network, Edge::Output, index, value) })
}

unsafe fn describe(
    network: *const Handle,
    edge: Edge,
    index: usize,
    place: *mut Value,
) -> Result<(), Failure> {
    // SAFETY: as the head of this file asks.
    let (value, name) = unsafe { shared(network, "network") }?.value(edge, index)?;
    if place.is_null() {
        return Err(is_null("value"));
    }
    let described = Value {
        name: name.as_ptr(),
        shape: value.shape.as_ptr(),
        rank: value.shape.len(),
        count: value.len(),
        bits: 8 * value.quant.width.bytes() as u32,
        is_unsigned: network::is_unsigned(value).into(),
        scale: value.quant.scale[0],
        zero_point: network::zero_point(value),
    };
    // SAFETY: a place for a value, as the head of this file asks.
    unsafe { place.write(described) };
    Ok(())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn naive_ptq_open(
    network: *const Handle,
    session: *mut *mut Session,
) -> Status {
    // SAFETY: as the head of this file asks.
    status(|| unsafe {
        let place = place(session, "session")?;
        *place = Box::into_raw(Box::new(Session::new(shared(network, "network")?)?));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn naive_ptq_close(session: *mut Session) {
    status(|| {
        // SAFETY: from `into_raw`, and given back once, as the head of this file asks.
        drop((!session.is_null()).then(|| unsafe { Box::from_raw(session) }));
        Ok(())
    });
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn naive_ptq_set(
    session: *mut Session,
    index: usize,
    numbers: *const f32,
    count: usize,
) -> Status {
    // SAFETY: as the head of this file asks.
    status(|| unsafe { unique(session, "session")?.set(index, slice(numbers, count, "numbers")?) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn naive_ptq_set_codes(
    session: *mut Session,
    index: usize,
    codes: *const c_void,
    size: usize,
) -> Status {
    // SAFETY: as the head of this file asks.
    status(|| unsafe {
        unique(session, "session")?.set_codes(index, slice(codes.cast(), size, "codes")?)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn naive_ptq_run(session: *mut Session) -> Status {
    // SAFETY: as the head of this file asks.
    status(|| unsafe { unique(session, "session")?.run() })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn naive_ptq_get(
    session: *const Session,
    index: usize,
    real: *mut f32,
    count: usize,
) -> Status {
    // SAFETY: as the head of this file asks.
    status(|| unsafe { shared(session, "session")?.get(index, slice_mut(real, count, "real")?) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn naive_ptq_get_codes(
    session: *const Session,
    index: usize,
    codes: *mut c_void,
    size: usize,
) -> Status {
    // SAFETY: as the head of this file asks.
    status(|| unsafe {
        shared(session, "session")?.get_codes(index, slice_mut(codes.cast(), size, "codes")?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said() -> String {
        // SAFETY: the text of the thread's last failure.
        unsafe { CStr::from_ptr(naive_ptq_error()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn no_panic_leaves_the_library() {
        assert_eq!(status(|| panic!("broken\n{}", 1)), Status::Fault);
        assert_eq!(said(), "a fault of the library: broken 1");
        assert_eq!(status(|| panic!("broken")), Status::Fault);
        assert_eq!(said(), "a fault of the library: broken");
        assert_eq!(status(|| std::panic::panic_any(1)), Status::Fault);
        assert_eq!(said(), "a fault of the library: a panic");
        assert_eq!(status(|| Ok(())), Status::Ok);
        assert_eq!(said(), "a fault of the library: a panic");
    }
}
