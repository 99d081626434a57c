//! Loading holds the weights in f32 and little else: at most 1.3 times the memory of the final weights. Of a quantised model
//! that counts its file, too, with the layout and the proportions of SmolLM2-135M in Q4_1 (its embedding is a fifth of the
//! weights). Files in f32 and bf16 are as large as the weights, or half as large: there the bytes are the caller's, who maps
//! them (the command) or was handed them (the page). A test program of its own, because it counts every byte that is allocated.

use avascope::model::{ModelConfig, expected_shapes, gguf};
use avascope::train::{Files, open_model};
use avascope::world::Language;
use burn::tensor::Device;
use serde_json::{Map, Value, json};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator with a count of the bytes in use and of the most that ever were.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

fn grown(bytes: usize) {
    let now = IN_USE.fetch_add(bytes, Ordering::SeqCst) + bytes;
    MOST.fetch_max(now, Ordering::SeqCst);
}

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::SeqCst);
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Old and new may stand side by side while it moves.
        grown(size);
        IN_USE.fetch_sub(layout.size(), Ordering::SeqCst);
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The count is the whole program's: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

const VOCABULARY: u64 = 4096;
const HIDDEN: u64 = 256;
const FEED_FORWARD: u64 = 768;
const LAYERS: u64 = 6;
const HEADS: u64 = 4;
const KV_HEADS: u64 = 2;

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// A GGUF file: matrices in Q4_1 (20 bytes for 32 weights), vectors in F32.
fn file() -> Vec<u8> {
    let width = HIDDEN / HEADS * KV_HEADS;
    let mut tensors: Vec<(String, Vec<u64>)> = vec![
        ("token_embd.weight".into(), vec![HIDDEN, VOCABULARY]),
        ("output_norm.weight".into(), vec![HIDDEN]),
    ];
    for layer in 0..LAYERS {
        for (part, shape) in [
            ("attn_norm", vec![HIDDEN]),
            ("ffn_norm", vec![HIDDEN]),
            ("attn_q", vec![HIDDEN, HIDDEN]),
            ("attn_k", vec![HIDDEN, width]),
            ("attn_v", vec![HIDDEN, width]),
            ("attn_output", vec![HIDDEN, HIDDEN]),
            ("ffn_gate", vec![HIDDEN, FEED_FORWARD]),
            ("ffn_up", vec![HIDDEN, FEED_FORWARD]),
            ("ffn_down", vec![FEED_FORWARD, HIDDEN]),
        ] {
            tensors.push((format!("blk.{layer}.{part}.weight"), shape));
        }
    }
    let numbers = [
        ("llama.embedding_length", HIDDEN),
        ("llama.feed_forward_length", FEED_FORWARD),
        ("llama.block_count", LAYERS),
        ("llama.attention.head_count", HEADS),
        ("llama.attention.head_count_kv", KV_HEADS),
        ("llama.context_length", 2048),
    ];
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3u32.to_le_bytes());
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend((numbers.len() as u64 + 1).to_le_bytes());
    text(&mut bytes, "general.architecture");
    bytes.extend(8u32.to_le_bytes());
    text(&mut bytes, "llama");
    for (key, number) in numbers {
        text(&mut bytes, key);
        bytes.extend(4u32.to_le_bytes());
        bytes.extend((number as u32).to_le_bytes());
    }
    let mut size = 0u64;
    for (name, shape) in &tensors {
        text(&mut bytes, name);
        bytes.extend((shape.len() as u32).to_le_bytes());
        for dimension in shape {
            bytes.extend(dimension.to_le_bytes());
        }
        let elements: u64 = shape.iter().product();
        let (kind, stored) = match shape.len() {
            1 => (0u32, 4 * elements),
            _ => (3u32, elements / 32 * 20),
        };
        bytes.extend(kind.to_le_bytes());
        bytes.extend(size.to_le_bytes());
        size = (size + stored).next_multiple_of(32);
    }
    bytes.resize(bytes.len().next_multiple_of(32) + size as usize, 0);
    bytes.shrink_to_fit();
    bytes
}

#[test]
fn loading_peaks_below_1_3_times_the_final_weights() {
    let _alone = ALONE.lock();
    let device = Device::flex();
    // What is made once for the whole program is not the load's.
    drop(gguf::load(&file(), &device).expect("loads"));
    let before = IN_USE.load(Ordering::SeqCst);
    let bytes = file();
    MOST.store(IN_USE.load(Ordering::SeqCst), Ordering::SeqCst);
    let model = gguf::load(&bytes, &device).expect("loads");
    let peak = MOST.load(Ordering::SeqCst) - before;
    let weights = 4 * model.parameters();
    let share = peak as f64 / weights as f64;
    println!(
        "{:.1} MB of weights, {:.1} MB in the file, {:.1} MB at the peak: {share:.3} times the weights",
        weights as f64 / 1e6,
        bytes.len() as f64 / 1e6,
        peak as f64 / 1e6
    );
    assert_eq!(model.parameters(), 5_770_496);
    // Both are there at the end of it: less would mean that the count is wrong.
    assert!(peak >= weights + bytes.len(), "{peak}");
    assert!(share <= 1.3, "{share}");
}

/// A Hugging Face directory's configuration, and its weights, zeros of `width` bytes each.
fn directory(kind: &str, width: usize) -> (Vec<u8>, Vec<u8>) {
    let config = json!({
        "model_type": "llama",
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": FEED_FORWARD,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": true,
    });
    let config = serde_json::to_vec(&config).expect("JSON");
    let shapes = expected_shapes(&ModelConfig::from_json(&config).expect("a configuration"));
    let mut header = Map::new();
    let mut end = 0;
    for (name, shape) in shapes {
        let start = end;
        end += width * shape.iter().product::<usize>();
        let tensor = json!({"dtype": kind, "shape": shape, "data_offsets": [start, end]});
        header.insert(name, tensor);
    }
    let header = Value::Object(header).to_string();
    let mut weights = Vec::with_capacity(8 + header.len() + end);
    weights.extend((header.len() as u64).to_le_bytes());
    weights.extend(header.as_bytes());
    weights.resize(8 + header.len() + end, 0);
    (config, weights)
}

#[test]
fn loading_takes_no_second_copy_of_weights_that_are_not_quantised() {
    let _alone = ALONE.lock();
    let device = Device::flex();
    let language = Language::new();
    let (tokens, settings) = (language.tokenizer_json(), language.tokenizer_config_json());
    for (kind, width) in [("F32", 4), ("BF16", 2)] {
        let (config, weights) = directory(kind, width);
        let files: Files<'_> = [
            ("config.json", &config),
            ("model.safetensors", &weights),
            ("tokenizer.json", &tokens),
            ("tokenizer_config.json", &settings),
        ]
        .into_iter()
        .map(|(name, bytes)| (name.to_string(), bytes.as_slice()))
        .collect();
        // What is made once for the whole program is not the load's.
        drop(open_model("model", &files, &device).expect("opens"));
        let before = IN_USE.load(Ordering::SeqCst);
        MOST.store(before, Ordering::SeqCst);
        let model = open_model("model", &files, &device).expect("opens");
        let peak = MOST.load(Ordering::SeqCst) - before;
        let final_weights = 4 * model.decoder.parameters();
        let share = peak as f64 / final_weights as f64;
        println!(
            "{kind}: {:.1} MB of weights, {:.1} MB at the peak: {share:.3} times the weights",
            final_weights as f64 / 1e6,
            peak as f64 / 1e6
        );
        assert_eq!(model.decoder.parameters(), 5_770_496);
        // The weights are there at the end of it: less would mean that the count is wrong.
        assert!(peak >= final_weights, "{kind}: {peak}");
        assert!(share <= 1.3, "{kind}: {share}");
    }
}
