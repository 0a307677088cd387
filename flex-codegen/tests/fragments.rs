//! The maps between lanes and elements in `templates/flex/products_*.cuh`: a warp of host threads runs the products, its
//! instructions written down from their definition in the PTX manual (`fragments/flex/ptx.cuh`). Needs no GPU.

use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn a_warp_of_host_threads_computes_the_products() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fragments");
    let compiler = std::env::var_os("CXX").map_or_else(|| PathBuf::from("c++"), PathBuf::from);
    let output = Command::new(compiler)
        .args(["-std=c++20", "-O1", "-w", "-pthread", "-o"])
        .arg(&program)
        .arg(package.join("tests/fragments/products.cpp"))
        // In this order: the warp's header stands in for the one of the templates.
        .arg("-I")
        .arg(package.join("tests/fragments"))
        .arg("-I")
        .arg(package.join("../templates"))
        .output()
        .expect("a C++ compiler named c++ or by $CXX");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = Command::new(&program).output().expect("the program that was just built");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.lines().count() == 4, "{said}");
}
