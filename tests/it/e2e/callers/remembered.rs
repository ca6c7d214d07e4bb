//! What a connection remembers of its client's proofs is good for these proofs, for as long as they
//! hold, and for nothing else: by every way that a call can take through the server.

use std::time::Duration;

use rolegate::grpc::pb;
use rolegate::grpc::pb::authz_service_client::AuthzServiceClient;
use rolegate::grpc::pb::tenant_service_client::TenantServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::jwt::{self, Signer};
use super::setup::{DAY, Place, check, eventually, hash, is_nobody, tokened};

/// Answered from the bytes of the message, in bulk, by the general way, and elsewhere.
const WAYS: [&str; 5] = ["Check", "BatchCheck", "FilterResources", "PlanFilter", "CreateTenant"];

fn tenant(validate_only: bool) -> pb::CreateTenantRequest {
    pb::CreateTenantRequest {
        tenant_id: if validate_only { "other" } else { "acme" }.into(),
        catalog_id: "qpien".into(),
        owner_member_id: "kim".into(),
        validate_only,
        ..Default::default()
    }
}

async fn ask(channel: &Channel, token: &str, way: &str) -> Result<(), Status> {
    let (tenant_id, member_id) = ("acme".to_owned(), "kim".to_owned());
    let permission = "conversation.view".to_owned();
    let mut authz = AuthzServiceClient::new(channel.clone());
    match way {
        "Check" => check(channel, Some(token)).await,
        "BatchCheck" => {
            let item = pb::CheckItem { member_id, permission, ..Default::default() };
            let batch = pb::BatchCheckRequest { tenant_id, items: vec![item], consistency: None };
            authz.batch_check(tokened(token, batch)).await.map(drop)
        }
        "FilterResources" => {
            let resources = vec![pb::Resource { id: "1".into(), ..Default::default() }];
            let filter = pb::FilterResourcesRequest {
                tenant_id,
                member_id,
                permission,
                resources,
                consistency: None,
            };
            authz.filter_resources(tokened(token, filter)).await.map(drop)
        }
        "PlanFilter" => {
            let plan =
                pb::PlanFilterRequest { tenant_id, member_id, permission, ..Default::default() };
            authz.plan_filter(tokened(token, plan)).await.map(drop)
        }
        _ => {
            let mut tenants = TenantServiceClient::new(channel.clone());
            tenants.create_tenant(tokened(token, tenant(true))).await.map(drop)
        }
    }
}

async fn each_answers(channel: &Channel, token: &str) {
    // Twice: the second time it is remembered however the first one went.
    for way in WAYS.into_iter().chain(WAYS) {
        ask(channel, token, way).await.unwrap_or_else(|status| panic!("{way}: {status:?}"));
    }
}

async fn none_answers(channel: &Channel, token: &str) {
    for way in WAYS {
        is_nobody(ask(channel, token, way).await);
    }
}

/// A connection on which this token was used, in every way.
async fn used(place: &Place, server: &crate::e2e::process::Server, token: &str) -> Channel {
    let channel = place.connect(server, None).await.unwrap();
    let mut tenants = TenantServiceClient::new(channel.clone());
    tenants.create_tenant(tokened(token, tenant(false))).await.unwrap();
    each_answers(&channel, token).await;
    channel
}

fn caller(name: &str, token: &str, capabilities: &str) -> String {
    format!(
        "[[caller]]\nname = \"{name}\"\ntoken_sha256 = [\"{}\"]\ncapabilities = [{capabilities}]\n",
        hash(token)
    )
}

#[tokio::test]
async fn a_token_is_taken_for_no_other_and_not_after_it_was_taken_away() {
    const ALL: &str = "\"check\", \"admin\"";
    let both = caller("desk", "token-a", ALL) + &caller("chat", "token-b", "\"check\"");
    let place = Place::new(&both);
    let server = place.start(&[]);
    let channel = used(&place, &server, "token-a").await;
    none_answers(&channel, "token-c").await;
    none_answers(&channel, "token-a2").await;
    // Two callers in turn, as a proxy brings them: each has its own rights.
    for _ in 0..3 {
        each_answers(&channel, "token-a").await;
        for way in WAYS {
            let said = ask(&channel, "token-b", way).await.map_err(|status| status.code());
            let expected = if way == "CreateTenant" { Err(Code::PermissionDenied) } else { Ok(()) };
            assert_eq!(said, expected, "{way}");
        }
        none_answers(&channel, "token-c").await;
    }

    // One capability less; that the other token is known, on another connection, tells when.
    let other = place.connect(&server, None).await.unwrap();
    let less = caller("desk", "token-a", "\"admin\"") + &caller("new", "token-c", ALL);
    place.write("callers.toml", &less);
    eventually("the reload", async || ask(&other, "token-c", "Check").await.is_ok()).await;
    for way in WAYS {
        let said = ask(&channel, "token-a", way).await.map_err(|status| status.code());
        let expected = if way == "CreateTenant" { Ok(()) } else { Err(Code::PermissionDenied) };
        assert_eq!(said, expected, "{way}");
    }
    none_answers(&channel, "token-b").await;

    place.write("callers.toml", &caller("new", "token-d", ALL));
    eventually("the reload", async || ask(&other, "token-d", "Check").await.is_ok()).await;
    none_answers(&channel, "token-a").await;
    none_answers(&channel, "token-c").await;
    each_answers(&channel, "token-d").await;
}

fn with_issuer(signer: &Signer) -> Place {
    let callers = jwt::callers("jwks_file = \"keys.json\"", "check");
    let place = Place::new(&callers.replace("[\"check\"]", "[\"check\", \"admin\"]"));
    place.write("keys.json", &signer.keys());
    place
}

#[tokio::test]
async fn a_signed_token_is_of_no_use_beyond_its_end() {
    let signer = Signer::new("key");
    let place = with_issuer(&signer);
    let server = place.start(&[]);
    let short = signer.token(Duration::from_secs(5));
    let channel = used(&place, &server, &short).await;
    let ended = async || ask(&channel, &short, "Check").await.is_err();
    eventually("the end of the token", ended).await;
    none_answers(&channel, &short).await;
    each_answers(&channel, &signer.token(DAY)).await;
}

#[tokio::test]
async fn a_signed_token_is_of_no_use_without_its_key() {
    let [first, second] = ["first", "second"].map(Signer::new);
    let place = with_issuer(&first);
    let server = place.start(&[]);
    let (old, new) = (first.token(DAY), second.token(DAY));
    let channel = used(&place, &server, &old).await;
    let other = place.connect(&server, None).await.unwrap();
    place.write("keys.json", &second.keys());
    eventually("the other key", async || ask(&other, &new, "Check").await.is_ok()).await;
    none_answers(&channel, &old).await;
    each_answers(&channel, &new).await;
}
