//! A word that is not meant for anybody.
//!
//! wgpu enables the extensions for windows in every Vulkan instance and cannot be told otherwise. Mesa's layer that sorts
//! devices takes that for a program with a window, and asks the Wayland server which device shows the screen. Where no
//! desktop runs there is no server, and libwayland writes "error: XDG_RUNTIME_DIR is invalid" to standard error, once a
//! question: it reads as if this program had failed. The command never opens a window, so nothing that libwayland has to
//! say concerns its user: its own log goes to a handler that drops it. That is the whole process's business, so the command
//! decides it and not the library, whose host may have windows.

use std::ffi::{CStr, c_char, c_int, c_void};

// The dynamic linker's own, in the C library.
unsafe extern "C" {
    fn dlopen(file: *const c_char, mode: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, symbol: *const c_char) -> *mut c_void;
}

/// Symbols are looked up when they are first used; so in every C library of Linux.
const RTLD_LAZY: c_int = 1;
const LIBRARY: &CStr = c"libwayland-client.so.0";
const SET_HANDLER: &CStr = c"wl_log_set_handler_client";

/// libwayland's `wl_log_func_t`: a format and a `va_list`, which every Linux passes as one word.
type Handler = unsafe extern "C" fn(*const c_char, *mut c_void);

unsafe extern "C" fn drop_line(_format: *const c_char, _arguments: *mut c_void) {}

/// Makes libwayland silent in this process; without effect where it is not installed.
pub fn silence() {
    // SAFETY: both names end with NUL. The library stays open, so the handler that it is given can be called as long as the
    // process lives; the symbol has this type since libwayland 1.0, and the handler reads none of its arguments.
    unsafe {
        let library = dlopen(LIBRARY.as_ptr(), RTLD_LAZY);
        if library.is_null() {
            return;
        }
        let symbol = dlsym(library, SET_HANDLER.as_ptr());
        if !symbol.is_null() {
            let set: unsafe extern "C" fn(Handler) = std::mem::transmute(symbol);
            set(drop_line);
        }
    }
}
