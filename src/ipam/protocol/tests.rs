//! Questions as Docker asks them, and as nobody should.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::model::BootId;
use crate::places::Places;

fn context(folder: &std::path::Path) -> std::io::Result<Context> {
    let at = |name: &str| folder.join(name);
    let places = Places { config: at("etc"), state: at("var"), run: at("run") };
    std::fs::create_dir_all(places.networks())?;
    let file = "format = 1\nipam = \"hybrid\"\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n";
    std::fs::write(places.networks().join("hybrid.toml"), file)?;
    Ok(Context { places, boot: BootId("now".into()) })
}

/// Status and answer.
fn ask(context: &Context, question: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let reply = answer(context, question, body.as_bytes());
    (reply.status.as_u16(), serde_json::from_str(&reply.body).unwrap_or(Value::Null))
}

fn error_of((status, answer): (u16, Value)) -> (u16, String) {
    (status, answer.get("Error").or(answer.get("Err")).and_then(Value::as_str).unwrap_or_default().to_owned())
}

#[test]
fn a_networks_life_as_docker_asks_for_it() -> std::io::Result<()> {
    let folder = tempfile::tempdir()?;
    let context = context(folder.path())?;
    let mut said = Vec::new();
    let pool = json!({"PoolID": "hybrid@10.0.1.0/24"});
    let with = |more: Value| {
        let mut question = pool.clone();
        if let (Some(question), Value::Object(more)) = (question.as_object_mut(), more) {
            question.extend(more);
        }
        question
    };
    let mac = "com.docker.network.endpoint.macaddress";
    for (question, body) in [
        ("/Plugin.Activate", Value::Null),
        ("/IpamDriver.GetCapabilities", Value::Null),
        ("/IpamDriver.GetDefaultAddressSpaces", Value::Null),
        (
            "/IpamDriver.RequestPool",
            json!({"AddressSpace": "hybrid", "Pool": "10.0.1.0/24", "SubPool": "", "Options": {"network": "hybrid"}, "V6": false}),
        ),
        (
            "/IpamDriver.RequestAddress",
            with(
                json!({"Address": "10.0.1.1", "Options": {"RequestAddressType": "com.docker.network.gateway"}}),
            ),
        ),
        ("/IpamDriver.RequestAddress", with(json!({"Address": "", "Options": {mac: "02:42:0a:00:00:07"}}))),
        (
            "/IpamDriver.RequestAddress",
            with(json!({"Address": "10.0.1.9", "Options": {mac: "02:42:0a:00:00:08"}})),
        ),
        (
            "/IpamDriver.RequestAddress",
            with(json!({"Address": "10.0.1.9", "Options": {mac: "02:42:0a:00:00:09"}})),
        ),
        ("/IpamDriver.RequestAddress", with(json!({"Address": "10.0.1.5", "Options": null}))),
        ("/IpamDriver.ReleaseAddress", with(json!({"Address": "10.0.1.9"}))),
        ("/IpamDriver.ReleaseAddress", with(json!({"Address": "10.0.1.1"}))),
        ("/IpamDriver.ReleasePool", pool.clone()),
    ] {
        let (status, answer) = ask(&context, question, &body);
        said.push(format!("{} {status} {answer}", question.trim_start_matches('/')));
    }
    insta::assert_snapshot!(said.join("\n"), @r#"
    Plugin.Activate 200 {"Implements":["IpamDriver"]}
    IpamDriver.GetCapabilities 200 {"RequiresMACAddress":true}
    IpamDriver.GetDefaultAddressSpaces 200 {"GlobalDefaultAddressSpace":"hybrid","LocalDefaultAddressSpace":"hybrid"}
    IpamDriver.RequestPool 200 {"Data":{},"Pool":"10.0.1.0/24","PoolID":"hybrid@10.0.1.0/24"}
    IpamDriver.RequestAddress 200 {"Address":"10.0.1.1/24","Data":{}}
    IpamDriver.RequestAddress 200 {"Address":"10.0.1.64/24","Data":{}}
    IpamDriver.RequestAddress 200 {"Address":"10.0.1.9/24","Data":{}}
    IpamDriver.RequestAddress 200 {"Error":"10.0.1.9 is held by a container that is starting (active); hybrid-hook leases --network hybrid shows all; choose another ip, or release that one (hybrid-hook gc --network hybrid frees those of VMs that are gone)"}
    IpamDriver.RequestAddress 200 {"Error":"the driver hybrid gives addresses to containers alone, and this has no MAC; hybrid-hook reserve keeps an address for a MAC or a host name"}
    IpamDriver.ReleaseAddress 200 {}
    IpamDriver.ReleaseAddress 200 {}
    IpamDriver.ReleasePool 200 {}
    "#);
    Ok(())
}

#[test]
fn what_is_no_question_is_refused_in_words() -> std::io::Result<()> {
    let folder = tempfile::tempdir()?;
    let context = context(folder.path())?;
    let reply = |question: &str, body: &[u8]| answer(&context, question, body);
    for body in
        [&b""[..], b"null", b"[]", b"{", b"\"x\"", b"\xff\xfe", b"{\"PoolID\":7}", b"{\"PoolID\":\"x\"}"]
    {
        for question in ["RequestAddress", "ReleaseAddress"] {
            let reply = reply(&format!("/IpamDriver.{question}"), body);
            assert!(
                reply.status.is_client_error() && reply.body.contains("\"Err\":\""),
                "{body:?} {reply:?}"
            );
        }
    }
    let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    assert_eq!(reply("/IpamDriver.RequestPool", deep.as_bytes()).status, StatusCode::BAD_REQUEST);
    for path in
        ["/", "", "/IpamDriver.", "/NetworkDriver.Join", "/IpamDriver.RequestPool/..", "/../etc/passwd"]
    {
        assert_eq!(reply(path, b"{}").status, StatusCode::NOT_FOUND, "{path}");
    }
    for id in
        ["../../etc@10.0.1.0/24", "hybrid@10.0.1.0/99", "hybrid", "@", "hybrid@", "$(reboot)@10.0.1.0/24"]
    {
        let question = json!({"PoolID": id, "Address": "10.0.1.9"});
        let (status, error) = error_of(ask(&context, "/IpamDriver.ReleaseAddress", &question));
        assert_eq!(status, 400, "{id}");
        assert!(error.contains("PoolID"), "{error}");
    }
    let options = json!({"com.docker.network.endpoint.macaddress": "01:00:5e:00:00:01"});
    let question = json!({"PoolID": "hybrid@10.0.1.0/24", "Address": "", "Options": options});
    assert!(error_of(ask(&context, "/IpamDriver.RequestAddress", &question)).1.contains("group address"));
    let question = json!({"Pool": "10.0.1.0/24"});
    assert!(
        error_of(ask(&context, "/IpamDriver.RequestPool", &question)).1.contains("--ipam-opt network=NAME")
    );
    let question = json!({"Pool": "10.0.1.0/24", "SubPool": "10.0.1.0/26", "Options": {"network": "hybrid"}});
    assert!(error_of(ask(&context, "/IpamDriver.RequestPool", &question)).1.contains("no range"));
    assert!(!context.places.state.exists(), "something was written");
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes_are_answered(method in 0..6_usize, body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let folder = tempfile::tempdir()?;
        let context = context(folder.path())?;
        let methods = ["RequestPool", "ReleasePool", "RequestAddress", "ReleaseAddress", "GetCapabilities", "x"];
        let path = format!("/IpamDriver.{}", methods.get(method).unwrap_or(&"x"));
        let reply = answer(&context, &path, &body);
        prop_assert!(serde_json::from_str::<Value>(&reply.body).is_ok());
    }
}
