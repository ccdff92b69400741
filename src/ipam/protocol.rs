//! Docker's IPAM protocol: which question means which verb, and the answers (moby, `libnetwork/docs/ipam.md`).
//!
//! What comes is from outside: every field becomes a checked type here, or is refused.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use hyper::StatusCode;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::deadline::Deadline;
use crate::host::docker::plugin::NETWORK_OPTION;
use crate::model::{Fault, Kind, MacAddress, NetworkName, Result};
use crate::ops::Context;
use crate::ops::ipam::{self, Pool};

/// What Docker's plugins speak.
pub(super) const CONTENT_TYPE: &str = "application/vnd.docker.plugins.v1.2+json";

/// How long an answer waits for the registry's lock, as a hook does.
const LOCK: Duration = Duration::from_secs(5);

/// The option of an address that says what it is for.
const TYPE_OPTION: &str = "RequestAddressType";
/// Its value for a gateway.
const GATEWAY: &str = "com.docker.network.gateway";
/// The option with the endpoint's MAC.
const MAC_OPTION: &str = "com.docker.network.endpoint.macaddress";

/// An answer as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    /// 200, or what is wrong with the question itself.
    pub(super) status: StatusCode,
    /// JSON.
    pub(super) body: String,
}

impl Reply {
    fn ok(value: &impl Serialize) -> Self {
        match serde_json::to_string(value) {
            Ok(body) => Self { status: StatusCode::OK, body },
            Err(_) => Self::bad(StatusCode::INTERNAL_SERVER_ERROR, "the answer can't be written"),
        }
    }

    /// A refusal. Docker shows `Error` of an answer, and `Err` of one whose status is not 200.
    pub(super) fn bad(status: StatusCode, text: &str) -> Self {
        let field = if status.is_success() { "Error" } else { "Err" };
        Self { status, body: serde_json::json!({ field: text }).to_string() }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct RequestPool {
    pool: String,
    sub_pool: String,
    options: Option<HashMap<String, String>>,
    v6: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct AddressQuestion {
    #[serde(rename = "PoolID")]
    pool_id: String,
    address: String,
    options: Option<HashMap<String, String>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct PoolAnswer {
    #[serde(rename = "PoolID")]
    pool_id: String,
    pool: String,
    data: HashMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct AddressAnswer {
    address: String,
    data: HashMap<String, String>,
}

/// Answers one question.
pub(super) fn answer(context: &Context, path: &str, body: &[u8]) -> Reply {
    let deadline = Deadline::after(LOCK);
    let answered = match path {
        "/Plugin.Activate" => Ok(Reply::ok(&serde_json::json!({ "Implements": ["IpamDriver"] }))),
        "/IpamDriver.GetCapabilities" => Ok(Reply::ok(&serde_json::json!({ "RequiresMACAddress": true }))),
        "/IpamDriver.GetDefaultAddressSpaces" => Ok(Reply::ok(&serde_json::json!({
            "LocalDefaultAddressSpace": "hybrid", "GlobalDefaultAddressSpace": "hybrid"
        }))),
        "/IpamDriver.RequestPool" => read(body).and_then(|question| request_pool(context, &question)),
        "/IpamDriver.ReleasePool" => read::<AddressQuestion>(body).map(|_| Reply::ok(&serde_json::json!({}))),
        "/IpamDriver.RequestAddress" => {
            read(body).and_then(|question| request_address(context, &question, deadline))
        }
        "/IpamDriver.ReleaseAddress" => {
            read(body).and_then(|question| release_address(context, &question, deadline))
        }
        _ => return Reply::bad(StatusCode::NOT_FOUND, "there is no such question"),
    };
    answered.unwrap_or_else(|fault| refusal(path, &fault))
}

/// A refusal in one line, with the way out. Docker shows it to whoever started the container.
fn refusal(path: &str, fault: &Fault) -> Reply {
    let text = fault.hint_text().map_or_else(|| fault.to_string(), |hint| format!("{fault}; {hint}"));
    log::warn!("{}: {text}", path.trim_start_matches("/IpamDriver."));
    // Docker takes the text of an answer; of another status it makes its own words.
    let status = if fault.kind() == Kind::Usage { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    Reply::bad(status, &text)
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T> {
    if body.is_empty() {
        // Docker asks again where a connection broke, and by then has forgotten what (28.5 still does).
        return Err(Fault::usage("the question is empty: the answer to it was cut off").hint("try again"));
    }
    serde_json::from_slice(body).map_err(|e| Fault::usage(format!("the question can't be read: {e}")))
}

fn request_pool(context: &Context, question: &RequestPool) -> Result<Reply> {
    let option = question.options.as_ref().and_then(|o| o.get(NETWORK_OPTION));
    let name: NetworkName = option
        .ok_or_else(|| {
            Fault::refused("the driver hybrid must be told the network of hybrid-hook").hint(
                "hybrid-hook network create makes the Docker network; by hand it takes --ipam-opt network=NAME",
            )
        })?
        .parse()?;
    if !question.sub_pool.is_empty() {
        return Err(Fault::refused("the driver hybrid takes no range")
            .hint("the container pool is in the network's file (container_pool)"));
    }
    let subnet = match question.pool.as_str() {
        "" => None,
        text => Some(text.parse::<IpNet>().map_err(|_| unfit("Pool", text))?),
    };
    let pool = ipam::pool(context, &name, subnet, question.v6)?;
    log::info!("network {name}: Docker counts on {}", pool.subnet);
    Ok(Reply::ok(&PoolAnswer { pool_id: id_of(&pool), pool: pool.subnet.to_string(), data: HashMap::new() }))
}

fn request_address(context: &Context, question: &AddressQuestion, deadline: Deadline) -> Result<Reply> {
    let pool = pool_of(&question.pool_id)?;
    let wanted = match question.address.as_str() {
        "" => None,
        text => Some(address(text)?),
    };
    let option = |key: &str| question.options.as_ref().and_then(|o| o.get(key)).map(String::as_str);
    let given = if option(TYPE_OPTION) == Some(GATEWAY) {
        ipam::gateway(context, &pool, wanted)?
    } else {
        let mac: MacAddress = option(MAC_OPTION)
            .ok_or_else(|| {
                Fault::refused("the driver hybrid gives addresses to containers alone, and this has no MAC")
                    .hint("hybrid-hook reserve keeps an address for a MAC or a host name")
            })?
            .parse()?;
        ipam::request(context, &pool, mac, wanted, deadline)?
    };
    let prefix = pool.subnet.prefix_len();
    Ok(Reply::ok(&AddressAnswer { address: format!("{given}/{prefix}"), data: HashMap::new() }))
}

fn release_address(context: &Context, question: &AddressQuestion, deadline: Deadline) -> Result<Reply> {
    let pool = pool_of(&question.pool_id)?;
    ipam::release(context, &pool, address(&question.address)?, deadline)?;
    Ok(Reply::ok(&serde_json::json!({})))
}

/// What Docker keeps of a pool and brings along with every question, in its own database: the network's name
/// and the subnet.
fn id_of(pool: &Pool) -> String {
    format!("{}@{}", pool.network, pool.subnet)
}

fn pool_of(id: &str) -> Result<Pool> {
    let bad = || unfit("PoolID", id);
    let (network, subnet) = id.split_once('@').ok_or_else(bad)?;
    Ok(Pool { network: network.parse().map_err(|_| bad())?, subnet: subnet.parse().map_err(|_| bad())? })
}

fn address(text: &str) -> Result<IpAddr> {
    text.parse().map_err(|_| unfit("Address", text))
}

fn unfit(field: &'static str, text: &str) -> Fault {
    crate::model::Invalid::new(field, text, "is none of ours").into()
}

#[cfg(test)]
mod tests;
