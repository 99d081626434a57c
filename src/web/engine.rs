//! What JavaScript sees: a class `Engine` with one asynchronous method.

use super::protocol::{Reply, Request};
use super::session::Session;
use js_sys::{Array, Object, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;

unsafe extern "C" {
    fn __wasm_call_ctors();
}

/// Runs once, when the module is loaded.
#[wasm_bindgen(start)]
pub fn start() {
    // Burn's kernels register themselves in constructors. A module that never calls them itself gets them run again by
    // the linker at every call from JavaScript, which makes each call crawl.
    // SAFETY: the linker provides this function, and the start function runs before anything else, once.
    unsafe { __wasm_call_ctors() };
    console_error_panic_hook::set_once();
}

/// The engine behind the page.
#[wasm_bindgen]
pub struct Engine {
    session: Session,
}

#[wasm_bindgen]
impl Engine {
    /// An engine without a device.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Engine {
        Engine {
            session: Session::default(),
        }
    }

    /// Answers a request. Takes the message and the buffers that belong to it; gives `{ reply, buffers }`. A request
    /// that cannot be carried out is answered by an `error` reply, not by an exception.
    pub async fn handle(&mut self, request: JsValue, buffers: Array) -> Result<JsValue, JsValue> {
        let buffers: Vec<Vec<u8>> = buffers
            .iter()
            .map(|buffer| Uint8Array::new(&buffer).to_vec())
            .collect();
        let (reply, buffers) = match serde_wasm_bindgen::from_value::<Request>(request) {
            Ok(request) => self.session.handle(request, buffers).await,
            Err(error) => (
                Reply::Error {
                    message: format!("the page asked for something unknown: {error}"),
                },
                Vec::new(),
            ),
        };
        let serializer = serde_wasm_bindgen::Serializer::json_compatible();
        let reply = serde::Serialize::serialize(&reply, &serializer)?;
        let out = Array::new();
        for buffer in &buffers {
            out.push(&Uint8Array::from(buffer.as_slice()));
        }
        let answer = Object::new();
        Reflect::set(&answer, &"reply".into(), &reply)?;
        Reflect::set(&answer, &"buffers".into(), &out)?;
        Ok(answer.into())
    }
}
