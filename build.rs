//! Compiles `proto/` into the crate: protox parses, tonic-prost-build generates. No system protoc.

use std::path::Path;

const PROTOS: [&str; 6] = [
    "rolegate/v1/authz_service.proto",
    "rolegate/v1/common.proto",
    "rolegate/v1/error_reason.proto",
    "rolegate/v1/member_service.proto",
    "rolegate/v1/role_service.proto",
    "rolegate/v1/tenant_service.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rustc-env=ROLEGATE_RUSTC={}", rustc_version()?);
    let out = std::env::var("OUT_DIR")?;
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    // Reflection serves the very descriptors that the code is generated from.
    let encoded = protox::prost::Message::encode_to_vec(&descriptors);
    std::fs::write(Path::new(&out).join("rolegate.v1.bin"), encoded)?;
    // The codec measures a request by the name of its type before it decodes it.
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    // Maps in order, so that the same message always has the same bytes.
    tonic_prost_build::configure()
        .btree_map(".")
        .codec_path("crate::grpc::codec::MeasuredCodec")
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}

/// Such as `1.95.0`, for whoever asks a server what it is.
fn rustc_version() -> Result<String, Box<dyn std::error::Error>> {
    let output = std::process::Command::new(std::env::var("RUSTC")?).arg("--version").output()?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text.split_whitespace().nth(1).unwrap_or("unknown").to_owned())
}
