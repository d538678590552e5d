//! The snapshot file: what was written comes back, and nothing else does.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use bytes::Bytes;
use prost::Message as _;
use tempfile::TempDir;
use weft_proto::names::NodeName;
use weft_proto::v1::resource::Body;

use super::super::disk::{Refused, Saved, load, path, save};
use super::super::parse::Features;
use super::*;

fn node() -> NodeName {
    "node-a".parse().expect("a name")
}

struct Place {
    folder: TempDir,
    file: PathBuf,
}

fn place() -> Place {
    let folder = tempfile::tempdir().expect("a folder");
    let file = path(&folder.path().join("state"));
    Place { folder, file }
}

fn written(features: &Features) -> Place {
    let place = place();
    let resources = [resource(Body::Workload(workload("u1"))), resource(Body::Service(service()))];
    let encoded = resources.iter().map(|resource| Bytes::from(resource.encode_to_vec())).collect();
    save(&place.file, &node(), features, encoded).expect("written");
    place
}

fn loaded(place: &Place) -> Result<Option<Saved>, Refused> {
    load(&place.file, &node())
}

#[test]
fn what_was_written_comes_back_and_only_this_user_reads_it() {
    let place = written(&Features::own());
    let saved = loaded(&place).expect("readable").expect("there");
    assert!(saved.resumable);
    let names: Vec<_> = saved.resources.iter().map(|resource| resource.name.as_str()).collect();
    assert_eq!(names, ["workload/u1", "service/shop/web"]);
    assert_eq!(fs::metadata(&place.file).expect("there").permissions().mode() & 0o777, 0o600);
}

#[test]
fn no_file_is_no_fault() {
    assert!(loaded(&place()).expect("no fault").is_none());
}

#[test]
fn a_file_replaces_the_one_before_and_the_rest_of_a_crash() {
    let place = written(&Features::own());
    fs::write(place.file.with_extension("new"), b"half").expect("written");
    save(&place.file, &node(), &Features::own(), Vec::new()).expect("written");
    assert!(loaded(&place).expect("readable").expect("there").resources.is_empty());
    assert!(!place.file.with_extension("new").exists());
}

#[test]
fn every_damaged_byte_and_every_cut_is_refused() {
    let place = written(&Features::own());
    let good = fs::read(&place.file).expect("there");
    for index in 0..good.len() {
        let mut bad = good.clone();
        bad[index] ^= 1;
        fs::write(&place.file, &bad).expect("written");
        assert!(loaded(&place).is_err(), "byte {index}");
        fs::write(&place.file, &good[..index]).expect("written");
        assert!(loaded(&place).is_err(), "cut at {index}");
    }
}

#[test]
fn another_format_is_refused_and_not_guessed() {
    let place = written(&Features::own());
    let mut bytes = fs::read(&place.file).expect("there");
    bytes[11] = 2;
    fs::write(&place.file, &bytes).expect("written");
    assert!(matches!(loaded(&place), Err(Refused::OtherFormat(2))));
}

#[test]
fn another_nodes_file_is_refused() {
    let place = written(&Features::own());
    let other: NodeName = "node-b".parse().expect("a name");
    assert!(matches!(load(&place.file, &other), Err(Refused::OtherNode(_))));
}

#[test]
fn a_file_that_others_may_write_or_that_is_a_link_is_refused() {
    let place = written(&Features::own());
    fs::set_permissions(&place.file, fs::Permissions::from_mode(0o620)).expect("set");
    assert!(matches!(loaded(&place), Err(Refused::NotOurs)));
    fs::set_permissions(&place.file, fs::Permissions::from_mode(0o600)).expect("set");
    let elsewhere = place.folder.path().join("elsewhere");
    fs::rename(&place.file, &elsewhere).expect("moved");
    symlink(&elsewhere, &place.file).expect("linked");
    assert!(matches!(loaded(&place), Err(Refused::Unreadable(_))));
}

#[test]
fn a_file_of_an_agent_with_other_features_is_read_but_not_resumed() {
    let saved = loaded(&written(&Features::new(vec!["opaque".to_owned()]))).expect("readable").expect("there");
    assert!(!saved.resumable);
    assert_eq!(saved.features.names(), ["opaque"]);
}
