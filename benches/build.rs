//! Compiles `echo.proto` on top of the service's own messages.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=echo.proto");
    println!("cargo:rerun-if-changed=../proto");
    let descriptors = protox::compile(["echo.proto"], [".", "../proto"])?;
    tonic_prost_build::configure()
        .extern_path(".rolegate.v1", "::rolegate::grpc::pb")
        .bytes(".bench")
        .compile_fds(descriptors)?;
    Ok(())
}
