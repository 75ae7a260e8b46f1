//! Account, regions, networks, DOKS clusters, projects, tags.

use base64::Engine as _;
use serde_json::{Value, json};

use super::answer::{Answer, page};
use super::routes::Call;
use super::world::{Cluster, Project, Vpc, World};

pub(super) const BORN: &str = "2026-01-02T03:04:05Z";

pub(super) fn get(world: &mut World, _: &Call) -> Answer {
    Answer::ok(json!({ "account": {
        "droplet_limit": 25,
        "floating_ip_limit": 5,
        "email": "somebody@example.com",
        "name": "Somebody",
        "uuid": "b6fr89dbf6d9156cace5f3c78dc9851d957381ef",
        "email_verified": true,
        "status": world.account_status,
        "status_message": "",
        "team": { "uuid": "5df3e3004a17e242b7c20ca6c9fc25b701a47ece", "name": "Registry" },
    } }))
}

pub(super) fn regions(world: &mut World, call: &Call) -> Answer {
    let regions: Vec<Value> = world
        .regions
        .iter()
        .map(|region| {
            json!({
                "name": region.slug.to_uppercase(),
                "slug": region.slug,
                "features": ["private_networking"],
                "available": region.available,
                "sizes": ["s-1vcpu-1gb"],
            })
        })
        .collect();
    page(&call.path, &call.query, "regions", &regions)
}

pub(super) fn vpcs(world: &mut World, call: &Call) -> Answer {
    let vpcs: Vec<Value> = world.vpcs.iter().map(show_vpc).collect();
    page(&call.path, &call.query, "vpcs", &vpcs)
}

pub(super) fn vpc(world: &mut World, call: &Call) -> Answer {
    let vpc = world.vpcs.iter().find(|vpc| vpc.id == call.part(0));
    vpc.map_or_else(Answer::not_found, |vpc| Answer::ok(json!({ "vpc": show_vpc(vpc) })))
}

fn show_vpc(vpc: &Vpc) -> Value {
    json!({
        "id": vpc.id,
        "urn": format!("do:vpc:{}", vpc.id),
        "name": vpc.name,
        "description": "",
        "region": vpc.region,
        "ip_range": "10.108.0.0/20",
        "default": true,
        "created_at": BORN,
    })
}

pub(super) fn clusters(world: &mut World, call: &Call) -> Answer {
    let clusters: Vec<Value> = world.clusters.iter().map(show_cluster).collect();
    page(&call.path, &call.query, "kubernetes_clusters", &clusters)
}

pub(super) fn cluster(world: &mut World, call: &Call) -> Answer {
    let cluster = world.clusters.iter().find(|cluster| cluster.id == call.part(1));
    cluster.map_or_else(Answer::not_found, |cluster| Answer::ok(json!({ "kubernetes_cluster": show_cluster(cluster) })))
}

/// Each call makes a token that lives as long as it was asked to; here it is always the same one.
pub(super) fn credentials(world: &mut World, call: &Call) -> Answer {
    let Some(cluster) = world.clusters.iter().find(|cluster| cluster.id == call.part(1)) else { return Answer::not_found() };
    let Some(access) = &cluster.access else { return Answer::unprocessable("the cluster has no API that can be reached") };
    let ca = base64::engine::general_purpose::STANDARD.encode(&access.ca_pem);
    Answer::ok(json!({
        "server": access.server,
        "certificate_authority_data": ca,
        "client_certificate_data": Value::Null,
        "client_key_data": Value::Null,
        "token": access.token,
        "expires_at": "2036-01-02T04:04:05Z",
    }))
}

fn show_cluster(cluster: &Cluster) -> Value {
    let pools = cluster.pools.iter().map(|pool| {
        let (least, most) = pool.auto_scale.unwrap_or_default();
        json!({
            "id": cluster.pool_id(&pool.name),
            "name": pool.name,
            "size": "s-4vcpu-8gb",
            "count": pool.count,
            "auto_scale": pool.auto_scale.is_some(),
            "min_nodes": least,
            "max_nodes": most,
            "tags": ["k8s"],
            "labels": Value::Null,
            "taints": [],
            "nodes": [],
        })
    });
    let firewall = cluster.allowed_addresses.as_ref();
    json!({
        "id": cluster.id,
        "name": cluster.name,
        "region": cluster.region,
        "version": cluster.version,
        "vpc_uuid": cluster.vpc,
        "cluster_subnet": "10.244.0.0/16",
        "service_subnet": "10.245.0.0/16",
        "endpoint": format!("https://{}.k8s.ondigitalocean.com", cluster.id),
        "tags": ["k8s"],
        "node_pools": pools.collect::<Vec<_>>(),
        "maintenance_policy": Value::Null,
        "auto_upgrade": false,
        "ha": false,
        "status": { "state": cluster.state, "message": "" },
        "control_plane_firewall": firewall.map(|addresses| json!({ "enabled": true, "allowed_addresses": addresses })),
        "sso": Value::Null,
        "created_at": BORN,
        "updated_at": BORN,
    })
}

pub(super) fn projects(world: &mut World, call: &Call) -> Answer {
    let projects: Vec<Value> = world.projects.iter().map(show_project).collect();
    page(&call.path, &call.query, "projects", &projects)
}

pub(super) fn default_project(world: &mut World, _: &Call) -> Answer {
    let project = world.projects.iter().find(|project| project.is_default);
    project.map_or_else(Answer::not_found, |project| Answer::ok(json!({ "project": show_project(project) })))
}

fn show_project(project: &Project) -> Value {
    json!({
        "id": project.id,
        "owner_uuid": "99525febec065ca37b2ffe4f852fd2b2581895e7",
        "owner_id": 258_992,
        "name": project.name,
        "description": "",
        "purpose": "Service or API",
        "environment": "Production",
        "is_default": project.is_default,
        "created_at": BORN,
        "updated_at": BORN,
    })
}

pub(super) fn project_resources(world: &mut World, call: &Call) -> Answer {
    let Some(project) = world.projects.iter().find(|project| project.id == call.part(0)) else { return Answer::not_found() };
    let resources: Vec<Value> = project.resources.iter().map(|urn| assigned(urn, "ok")).collect();
    page(&call.path, &call.query, "resources", &resources)
}

pub(super) fn assign(world: &mut World, call: &Call) -> Answer {
    let urns: Vec<String> = call
        .body
        .get("resources")
        .and_then(Value::as_array)
        .map_or_else(Vec::new, |urns| urns.iter().filter_map(Value::as_str).map(str::to_owned).collect());
    if !world.projects.iter().any(|project| project.id == call.part(0)) {
        return Answer::not_found();
    }
    let answers: Vec<Value> = urns.iter().map(|urn| assigned(urn, assign_one(world, call.part(0), urn))).collect();
    Answer::ok(json!({ "resources": answers }))
}

/// The call succeeds though nothing is there: each resource has a status of its own.
fn assign_one(world: &mut World, project: &str, urn: &str) -> &'static str {
    let exists = match urn.strip_prefix("do:").and_then(|rest| rest.split_once(':')) {
        Some(("dbaas", id)) => world.databases.iter().any(|database| database.id == id),
        Some(("space", name)) => world.buckets.as_ref().is_none_or(|buckets| buckets.contains(name)),
        Some(("kubernetes", id)) => world.clusters.iter().any(|cluster| cluster.id == id),
        _ => false,
    };
    if !exists {
        return "not_found";
    }
    let mut status = "assigned";
    for other in &mut world.projects {
        if other.id != project {
            other.resources.remove(urn);
        } else if !other.resources.insert(urn.to_owned()) {
            status = "already_assigned";
        }
    }
    status
}

fn assigned(urn: &str, status: &str) -> Value {
    json!({ "urn": urn, "assigned_at": BORN, "links": { "self": "https://api.digitalocean.com/v2/" }, "status": status })
}

pub(super) fn create_tag(world: &mut World, call: &Call) -> Answer {
    let Some(name) = call.text("name").filter(|name| is_tag(name)) else { return Answer::unprocessable("Tag name is invalid") };
    world.tags.insert(name.to_owned());
    Answer::created(json!({ "tag": show_tag(world, name) }))
}

pub(super) fn tag(world: &mut World, call: &Call) -> Answer {
    let name = call.part(0);
    if world.tags.contains(name) { Answer::ok(json!({ "tag": show_tag(world, name) })) } else { Answer::not_found() }
}

fn show_tag(world: &World, name: &str) -> Value {
    let count = world.databases.iter().filter(|database| database.tags.iter().any(|tag| tag == name)).count();
    json!({ "name": name, "resources": { "count": count, "databases": { "count": count } } })
}

pub(super) fn is_tag(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b':');
    !name.is_empty() && name.len() <= 255 && name.bytes().all(is_allowed)
}

pub(super) fn tag_resources(world: &mut World, call: &Call) -> Answer {
    let name = call.part(0).to_owned();
    if !world.tags.contains(&name) {
        return Answer::not_found();
    }
    let wanted = call.body.get("resources").and_then(Value::as_array).cloned().unwrap_or_default();
    for resource in wanted {
        let field = |name: &str| resource.get(name).and_then(Value::as_str).unwrap_or_default();
        let database = world.databases.iter_mut().find(|database| database.id == field("resource_id"));
        match database {
            Some(database) if field("resource_type") == "database" => {
                if !database.tags.contains(&name) {
                    database.tags.push(name.clone());
                }
            }
            _ => return Answer::unprocessable("resource could not be found"),
        }
    }
    Answer::empty(204)
}
