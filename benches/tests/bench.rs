//! The benchmark runs and writes what it found; the figures themselves are not judged here.

use std::process::Command;

#[test]
fn a_quick_run_writes_figures_tables_and_charts() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
    bench.args(["--quick", "--only", "connect,big,idle,scale", "--peers", "direct,socat", "--out"]).arg(dir.path());
    let output = bench.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && !said.contains("FAILED"), "{said}{}", String::from_utf8_lossy(&output.stderr));

    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    let report: serde_json::Value = serde_json::from_str(&read("results.json")).unwrap();
    let rounds = report["rounds"].as_array().unwrap();
    assert_eq!(rounds.len(), 3 + 3 + 1 + 2, "connect and big with all three, idle with socat alone, scale with direct connections");
    for round in rounds {
        let figures = round["figures"].as_object().unwrap();
        assert!(figures.len() >= 2 && figures.values().all(|figure| figure.as_f64().unwrap() >= 0.0), "{round}");
    }
    let connects = rounds.iter().find(|round| round["peer"] == "socat" && round["row"] == "connect").unwrap();
    assert!(connects["figures"]["cpu_us"].as_f64().unwrap() > 0.0, "socat forks for each client, and that costs");
    let many = rounds.iter().find(|round| round["peer"] == "direct TLS" && round["row"] == "scale").unwrap();
    assert_eq!((many["figures"]["clients_10"].as_f64(), many["figures"]["clients_100"].as_f64()), (Some(10.0), Some(100.0)));
    assert!(report["targets"].as_array().unwrap().is_empty(), "nothing of ours was measured");
    assert!(read("results.md").contains("| socat |"));
    assert!(read("redis.svg").contains(">socat<"));
}

#[test]
fn mistakes_on_the_command_line_are_named() {
    let bench = |arguments: &[&str]| Command::new(env!("CARGO_BIN_EXE_bench")).args(arguments).output().unwrap();
    for (arguments, word) in [(&["--peers", "sokat"][..], "sokat"), (&["--frobnicate"], "--frobnicate"), (&["--rounds"], "--rounds")] {
        let output = bench(arguments);
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains(word), "{output:?}");
    }
}
