//! Files that lie: each lie is an error in words, and no flipped byte or cut makes a panic.

use super::super::*;
use super::*;
use proptest::prelude::*;

fn small_config(tied: bool) -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Llama,
        vocab_size: 6,
        hidden_size: 4,
        intermediate_size: 4,
        layers: 1,
        heads: 2,
        kv_heads: 1,
        head_dim: 2,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::None,
        max_position: 8,
        norm_eps: 1e-5,
        tied,
        qkv_bias: false,
        output_bias: false,
        mlp_bias: false,
        qk_norm: false,
        labels: None,
        bos: Some(1),
        eos: vec![2],
        pad: None,
    }
}

fn small_safetensors() -> (Vec<u8>, Vec<u8>) {
    let model = Decoder::init(small_config(false), 1, &Device::flex()).expect("a model");
    let files = pollster::block_on(huggingface::export(&model)).expect("exports");
    (files.config, files.weights)
}

fn with_header(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[test]
fn safetensors_headers_that_lie_are_errors() {
    let tensor = |name: &str, shape: &str, start: u64, end: u64| {
        format!(r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":[{start},{end}]}}"#)
    };
    let one = |t: String| with_header(&format!("{{{t}}}"), 16);
    let many: Vec<String> = (0..150_000)
        .map(|i| tensor(&format!("t{i}"), "[0]", 0, 0))
        .collect();
    // With what each error has to name: the tensor, wherever the lie is found at one, else the numbers.
    let cases = [
        ("empty", "0 bytes are too few", Vec::new()),
        ("seven bytes", "7 bytes are too few", vec![0; 7]),
        (
            "header longer than the file",
            "claims 2 bytes, the file has 9",
            with_header("{}", 0)[..9].to_vec(),
        ),
        (
            "enormous header",
            "claims 18446744073709551615 bytes",
            u64::MAX.to_le_bytes().to_vec(),
        ),
        ("not JSON", "", with_header("{nonsense", 0)),
        (
            "range past the end",
            "tensor `a`",
            one(tensor("a", "[8]", 0, 32)),
        ),
        (
            "overlap",
            "tensor `b`",
            one([tensor("a", "[2]", 0, 8), tensor("b", "[2]", 4, 12)].join(",")),
        ),
        (
            "hole",
            "tensor `b`",
            one([tensor("a", "[1]", 0, 4), tensor("b", "[2]", 8, 16)].join(",")),
        ),
        (
            "size unlike the shape",
            "tensor `a`",
            one(tensor("a", "[3]", 0, 16)),
        ),
        (
            "end before start",
            "tensor `a`",
            one(tensor("a", "[4]", 16, 0)),
        ),
        (
            "overflowing shape",
            "tensor `a`",
            one(tensor("a", "[4294967296,4294967296,4]", 0, 16)),
        ),
        (
            "shape that is no number",
            "",
            one(tensor("a", "[NaN]", 0, 16)),
        ),
        (
            "a name twice",
            "tensor `a` stands twice",
            one([tensor("a", "[2]", 0, 8), tensor("a", "[2]", 8, 16)].join(",")),
        ),
        ("negative shape", "", one(tensor("a", "[-4]", 0, 16))),
        ("fractional shape", "", one(tensor("a", "[4.5]", 0, 16))),
        (
            "bytes after the end",
            "",
            with_header(&format!("{{{}}}", tensor("a", "[4]", 0, 16)), 20),
        ),
        (
            "too many tensors",
            "150000 tensors",
            with_header(&format!("{{{}}}", many.join(",")), 0),
        ),
    ];
    for (what, named, bytes) in cases {
        match safetensors::views(&bytes) {
            Err(ModelError::Malformed { problem, .. }) => {
                assert!(
                    problem.contains(named),
                    "{what}: no `{named}` in: {problem}"
                );
            }
            other => panic!("{what}: {:?}", other.map(|v| v.len())),
        }
    }
    // A header of a million tensors is not even parsed.
    let million: Vec<String> = (0..1_000_000)
        .map(|i| tensor(&format!("t{i}"), "[0]", 0, 0))
        .collect();
    let e = safetensors::views(&with_header(&format!("{{{}}}", million.join(",")), 0))
        .expect_err("too many")
        .to_string();
    assert!(e.contains("at most 16777216 are taken"), "{e}");
    let integers = with_header(
        r#"{"a":{"dtype":"I64","shape":[2],"data_offsets":[0,16]}}"#,
        16,
    );
    match safetensors::read(&integers) {
        Err(ModelError::Unsupported { value, .. }) => assert_eq!(value, "I64 of `a`"),
        other => panic!("{:?}", other.map(|tensors| tensors.len())),
    }
}

#[test]
fn tensors_that_do_not_fit_the_configuration_are_named() {
    let (config, weights) = small_safetensors();
    let tensors = safetensors::read(&weights).expect("reads");
    let load = |t: &std::collections::BTreeMap<String, safetensors::HostTensor>| {
        huggingface::load(&config, &safetensors::write(t), &Device::flex()).map(|_| ())
    };
    load(&tensors).expect("the whole file loads");
    let mut missing = tensors.clone();
    missing.remove("model.norm.weight");
    assert!(
        matches!(load(&missing), Err(ModelError::MissingTensors { first, .. }) if first == "model.norm.weight")
    );
    let mut extra = tensors.clone();
    extra.insert("model.more".into(), tensors["model.norm.weight"].clone());
    assert!(
        matches!(load(&extra), Err(ModelError::UnexpectedTensors { first, .. }) if first == "model.more")
    );
    let mut shape = tensors.clone();
    shape.insert(
        "model.norm.weight".into(),
        tensors["lm_head.weight"].clone(),
    );
    let e = load(&shape).expect_err("a wrong shape").to_string();
    assert!(
        e.contains("model.norm.weight") && e.contains("[6, 4]") && e.contains("[4]"),
        "{e}"
    );
}

#[test]
fn half_precision_files_load() {
    let values = [1.5f32, -0.25];
    let mut data = Vec::new();
    data.extend(
        values
            .iter()
            .flat_map(|v| half::f16::from_f32(*v).to_le_bytes()),
    );
    data.extend(
        values
            .iter()
            .flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()),
    );
    let header = r#"{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"b":{"dtype":"BF16","shape":[2],"data_offsets":[4,8]}}"#;
    let mut bytes = with_header(header, 0);
    bytes.extend_from_slice(&data);
    let read = safetensors::read(&bytes).expect("reads");
    assert_eq!(read["a"].values, values);
    assert_eq!(read["b"].values, values);
}

/// A small llama2.c file.
fn small_llama2c(tied: bool) -> Vec<u8> {
    let c = small_config(tied);
    let vocab = if tied { 6 } else { -6 };
    let header = [4i32, 4, 1, 2, 1, vocab, 8];
    let mut bytes: Vec<u8> = header.iter().flat_map(|n| n.to_le_bytes()).collect();
    let values: usize = expected_shapes(&c)
        .iter()
        .map(|(_, s)| s.iter().product::<usize>())
        .sum();
    bytes.extend((0..values + 8 * 2).flat_map(|i| (i as f32 * 0.01).to_le_bytes()));
    bytes
}

/// A small GGUF writer, for tests.
struct Gguf {
    bytes: Vec<u8>,
}

impl Gguf {
    fn new(tensors: u64, pairs: u64) -> Self {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend(tensors.to_le_bytes());
        bytes.extend(pairs.to_le_bytes());
        Self { bytes }
    }

    fn text(&mut self, s: &str) {
        self.bytes.extend((s.len() as u64).to_le_bytes());
        self.bytes.extend(s.as_bytes());
    }

    fn number(&mut self, key: &str, n: u32) {
        self.text(key);
        self.bytes.extend(4u32.to_le_bytes());
        self.bytes.extend(n.to_le_bytes());
    }

    fn tensor(&mut self, name: &str, shape: &[u64], kind: u32, offset: u64) {
        self.text(name);
        self.bytes.extend((shape.len() as u32).to_le_bytes());
        for d in shape.iter().rev() {
            self.bytes.extend(d.to_le_bytes());
        }
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend(offset.to_le_bytes());
    }

    fn finish(mut self, data: &[u8]) -> Vec<u8> {
        self.bytes.resize(self.bytes.len().next_multiple_of(32), 0);
        self.bytes.extend(data);
        self.bytes
    }
}

fn small_gguf() -> Vec<u8> {
    let shapes: [(&str, &[u64]); 11] = [
        ("token_embd.weight", &[6, 4]),
        ("output_norm.weight", &[4]),
        ("blk.0.attn_q.weight", &[4, 4]),
        ("blk.0.attn_k.weight", &[2, 4]),
        ("blk.0.attn_v.weight", &[2, 4]),
        ("blk.0.attn_output.weight", &[4, 4]),
        ("blk.0.ffn_gate.weight", &[4, 4]),
        ("blk.0.ffn_up.weight", &[4, 4]),
        ("blk.0.ffn_down.weight", &[4, 4]),
        ("blk.0.attn_norm.weight", &[4]),
        ("blk.0.ffn_norm.weight", &[4]),
    ];
    let mut file = Gguf::new(shapes.len() as u64, 8);
    file.text("general.architecture");
    file.bytes.extend(8u32.to_le_bytes());
    file.text("llama");
    for (key, n) in [
        ("llama.embedding_length", 4),
        ("llama.feed_forward_length", 4),
        ("llama.block_count", 1),
        ("llama.attention.head_count", 2),
        ("llama.attention.head_count_kv", 1),
        ("llama.context_length", 8),
    ] {
        file.number(key, n);
    }
    file.text("list");
    file.bytes.extend(9u32.to_le_bytes());
    file.bytes.extend(4u32.to_le_bytes());
    file.bytes.extend(2u64.to_le_bytes());
    file.bytes.extend([7, 0, 0, 0, 8, 0, 0, 0]);
    let mut data = Vec::new();
    for (name, shape) in shapes {
        file.tensor(name, shape, 0, data.len() as u64);
        let count = shape.iter().product::<u64>();
        data.extend((0..count).flat_map(|i| (i as f32).to_le_bytes()));
        data.resize(data.len().next_multiple_of(32), 0);
    }
    file.finish(&data)
}

#[test]
fn small_gguf_and_llama2c_files_load() {
    let device = Device::flex();
    let parsed = gguf::Gguf::parse(&small_gguf())
        .map(|g| g.metadata["list"].clone())
        .expect("parses");
    assert_eq!(
        parsed,
        gguf::Value::Array(vec![gguf::Value::U32(7), gguf::Value::U32(8)])
    );
    gguf::load(&small_gguf(), &device).expect("loads");
    for tied in [true, false] {
        let model = llama2c::load(&small_llama2c(tied), &device).expect("loads");
        assert_eq!(model.config.tied, tied);
    }
}

#[test]
fn gguf_files_that_lie_are_errors() {
    let with = |build: fn(&mut Gguf), tensors: u64, pairs: u64, data: usize| {
        let mut file = Gguf::new(tensors, pairs);
        build(&mut file);
        file.finish(&vec![0; data])
    };
    let array = |kind: u32, count: u64| {
        let mut file = Gguf::new(0, 1);
        file.text("a");
        file.bytes.extend(9u32.to_le_bytes());
        file.bytes.extend(kind.to_le_bytes());
        file.bytes.extend(count.to_le_bytes());
        file.finish(&[])
    };
    let mut old = small_gguf();
    old[4] = 1;
    let cases = [
        ("magic", b"GGML".to_vec()),
        ("version", old),
        ("billions of tensors", Gguf::new(u64::MAX, 0).finish(&[])),
        ("billions of pairs", Gguf::new(0, u64::MAX).finish(&[])),
        (
            "endless text",
            with(|f| f.bytes.extend(u64::MAX.to_le_bytes()), 0, 1, 64),
        ),
        ("endless array", array(8, u64::MAX)),
        ("endless byte array", array(0, 1 << 40)),
        ("unknown array type", array(77, 1)),
        (
            "overflowing sizes",
            with(|f| f.tensor("a", &[1 << 40, 1 << 40], 0, 0), 1, 0, 64),
        ),
        (
            "past the end",
            with(|f| f.tensor("a", &[64], 0, 0), 1, 0, 64),
        ),
        (
            "offset past 64 bits",
            with(|f| f.tensor("a", &[4], 0, u64::MAX - 31), 1, 0, 64),
        ),
        (
            "offset not aligned",
            with(|f| f.tensor("a", &[4], 0, 8), 1, 0, 64),
        ),
        ("no dimension", with(|f| f.tensor("a", &[], 0, 0), 1, 0, 64)),
        (
            "rows of half a block",
            with(|f| f.tensor("a", &[2, 16], 3, 0), 1, 0, 64),
        ),
        ("cut short", small_gguf()[..200].to_vec()),
    ];
    for (what, bytes) in cases {
        assert!(gguf::Gguf::parse(&bytes).is_err(), "{what}");
    }
    let said = |bytes: &[u8]| gguf::Gguf::parse(bytes).expect_err("not read").to_string();
    // Tensors that begin at one place, and one that reaches into the next; the file is long enough for each.
    for (first, second) in [(&[8][..], 0), (&[16], 32)] {
        let mut file = Gguf::new(2, 0);
        file.tensor("one", first, 0, 0);
        file.tensor("two", &[4], 0, second);
        let e = said(&file.finish(&[0; 128]));
        assert!(
            e.contains("`one`") && e.contains("`two`") && e.contains("over each other"),
            "{e}"
        );
    }
    let mut side_by_side = Gguf::new(2, 0);
    side_by_side.tensor("two", &[4], 0, 32);
    side_by_side.tensor("one", &[8], 0, 0);
    let bytes = side_by_side.finish(&[0; 64]);
    assert_eq!(gguf::Gguf::parse(&bytes).expect("parses").tensors.len(), 2);
    // A million entries that are really there.
    let mut million = Gguf::new(1_000_000, 0);
    for i in 0..1_000_000 {
        million.tensor(&format!("t{i}"), &[1], 0, 32 * i);
    }
    let e = said(&million.finish(&[]));
    assert!(e.contains("1000000 tensors, at most 100000"), "{e}");
}

#[test]
fn every_other_gguf_type_is_named_with_what_is_read_instead() {
    for kind in 0..64 {
        let mut file = Gguf::new(1, 0);
        file.tensor("blk.0.ffn_up.weight", &[256], kind, 0);
        let bytes = file.finish(&[0; 2048]);
        let parsed = gguf::Gguf::parse(&bytes).map(|file| file.tensors.len());
        // F32, F16, Q4_0, Q4_1, Q8_0, BF16.
        if [0, 1, 2, 3, 8, 30].contains(&kind) {
            assert_eq!(parsed.expect("a type that is read"), 1, "{kind}");
            continue;
        }
        let e = parsed.expect_err("a type that is not read").to_string();
        for word in [
            "blk.0.ffn_up.weight",
            &format!("({kind})"),
            "supported: F32, F16, BF16, Q8_0, Q4_0, Q4_1",
        ] {
            assert!(e.contains(word), "{kind}: {e}");
        }
        let name = match kind {
            6 => "Q5_0",
            12 => "Q4_K",
            14 => "Q6_K",
            31.. => "unknown",
            _ => "",
        };
        assert!(e.contains(name), "{kind}: {e}");
    }
}

#[test]
fn llama2c_files_that_lie_are_errors() {
    let good = small_llama2c(true);
    let device = Device::flex();
    for field in 0..7 {
        for value in [0i32, -1, i32::MIN, i32::MAX, 7] {
            let mut bytes = good.clone();
            bytes[4 * field..4 * field + 4].copy_from_slice(&value.to_le_bytes());
            assert!(
                llama2c::load(&bytes, &device).is_err(),
                "field {field} = {value}"
            );
        }
    }
    assert!(llama2c::load(&good[..good.len() - 4], &device).is_err());
}

/// Damage: bytes to flip, and where to cut (as shares of the length).
fn damage(bytes: &[u8], flips: &[(f64, u8)], cut: Option<f64>) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (place, mask) in flips {
        let at = ((bytes.len() - 1) as f64 * place) as usize;
        bytes[at] ^= mask;
    }
    if let Some(cut) = cut {
        bytes.truncate((bytes.len() as f64 * cut) as usize);
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_never_panic(
        flips in prop::collection::vec((0.0f64..1.0, any::<u8>()), 0..6),
        cut in prop::option::of(0.0f64..1.0),
        head in any::<bool>(),
    ) {
        // Most damage in the first part, where headers lie.
        let flips: Vec<_> = flips.into_iter().map(|(p, m)| (if head { p * 0.3 } else { p }, m)).collect();
        let device = Device::flex();
        let (config, weights) = small_safetensors();
        let _ = huggingface::load(&config, &damage(&weights, &flips, cut), &device);
        let _ = huggingface::load(&damage(&config, &flips, cut), &weights, &device);
        let _ = gguf::load(&damage(&small_gguf(), &flips, cut), &device);
        let _ = llama2c::load(&damage(&small_llama2c(false), &flips, cut), &device);
    }
}

#[test]
fn half_precision_files_round_to_nearest_and_refuse_what_does_not_fit() {
    let tensor = |values: Vec<f32>| {
        let shape = vec![values.len()];
        safetensors::write(&[("w".to_string(), safetensors::HostTensor { shape, values })].into())
    };
    let packed = safetensors::to_f16(&tensor(vec![0.1, -3.000_1, 1024.5, 6e-8])).unwrap();
    let back = &safetensors::read(&packed).unwrap()["w"];
    // 0.1 lies between 0.099975586 and 0.100036621; above 1,024 f16 holds whole numbers, halves go to the even one;
    // 6e-8 is next to the smallest subnormal number, 2^-24.
    assert_eq!(back.values, [0.099_975_586, -3.0, 1024.0, 2f32.powi(-24)]);
    for beyond in [65_520.0, f32::INFINITY, f32::NAN] {
        let error = safetensors::to_f16(&tensor(vec![1.0, beyond])).unwrap_err();
        assert!(error.to_string().contains("`w` holds"), "{error}");
    }
    assert!(safetensors::to_f16(b"short").is_err());
}
