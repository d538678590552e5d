//! What users do to their files, and what stays in use.

use tempfile::TempDir;

use super::*;
use crate::status::{Exceptions, Reports};

struct Files {
    folder: TempDir,
    state: TempDir,
    directory: Directory,
}

fn pod(name: &str, address: &str) -> String {
    format!("apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: shop\nstatus:\n  podIP: {address}\n")
}

impl Files {
    fn new() -> Self {
        let (folder, state) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let directory = Directory::impatient(folder.path(), state.path().join("kept.json"));
        Self { folder, state, directory }
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn restart(&mut self) {
        self.directory = Directory::impatient(self.folder.path(), self.state.path().join("kept.json"));
    }

    /// `name=address` of every pod, and every defect.
    fn look(&mut self) -> (Vec<String>, Vec<String>) {
        let reading = self.directory.read(&BTreeSet::new());
        let pods = reading.objects.pods();
        let pods = pods.map(|pod| format!("{}={}", pod.metadata.name, pod.addresses[0])).collect();
        (pods, reading.defects.iter().map(ToString::to_string).collect())
    }

    /// Pods as given; each defect contains its part.
    fn check(&mut self, title: &str, pods: &[&str], defects: &[&str]) {
        let (found, told) = self.look();
        assert_eq!(found, pods, "{title}");
        assert_eq!(told.len(), defects.len(), "{title}: {told:?}");
        for (message, part) in told.iter().zip(defects) {
            assert!(message.contains(part), "{title}: {message}");
        }
    }
}

#[test]
fn edits_renames_and_deletions_are_seen() {
    let mut files = Files::new();
    files.check("empty", &[], &[]);
    files.write("a.yaml", &format!("{}---\n{}", pod("a", "10.0.0.1"), pod("b", "10.0.0.2")));
    files.write("deep/er/c.yml", &pod("c", "10.0.0.3"));
    files.write("notes.txt", "not YAML: [");
    files.write(".hidden.yaml", &pod("hidden", "10.0.0.9"));
    files.check("three", &["a=10.0.0.1", "b=10.0.0.2", "c=10.0.0.3"], &[]);
    files.write("a.yaml", &pod("a", "10.0.0.7"));
    files.check("an edit and a document less", &["a=10.0.0.7", "c=10.0.0.3"], &[]);
    fs::rename(files.folder.path().join("deep/er/c.yml"), files.folder.path().join("z.yaml")).unwrap();
    files.check("moved", &["a=10.0.0.7", "c=10.0.0.3"], &[]);
    fs::remove_file(files.folder.path().join("a.yaml")).unwrap();
    files.check("deleted", &["c=10.0.0.3"], &[]);
}

#[test]
fn what_is_broken_stays_as_it_was_and_disturbs_nothing_else() {
    let mut files = Files::new();
    files.write("a.yaml", &format!("{}---\n{}", pod("a", "10.0.0.1"), pod("b", "10.0.0.2")));
    files.check("good", &["a=10.0.0.1", "b=10.0.0.2"], &[]);
    files.write("a.yaml", &format!("{}---\n{}", pod("a", "10.0.0.999"), pod("b", "10.0.0.5")));
    files.check(
        "one object",
        &["a=10.0.0.1", "b=10.0.0.5"],
        &["a.yaml:7: Pod shop/a: status.podIP: \"10.0.0.999\" is not an IP address"],
    );
    files.write("a.yaml", &format!("kind: [\n---\n{}", pod("b", "10.0.0.6")));
    files.check("a document that is no YAML", &["a=10.0.0.1", "b=10.0.0.6"], &["this is not YAML"]);
    files.write("c.yaml", &pod("c", "10.0.0.3"));
    files.check("a new file beside it", &["a=10.0.0.1", "b=10.0.0.6", "c=10.0.0.3"], &["this is not YAML"]);
    files.write("a.yaml", "");
    files.check("truncated by an editor", &["a=10.0.0.1", "b=10.0.0.6", "c=10.0.0.3"], &["a.yaml: the file is empty"]);
    files.write("a.yaml", &pod("b", "10.0.0.8"));
    files.check("repaired without a", &["b=10.0.0.8", "c=10.0.0.3"], &[]);
    fs::write(files.folder.path().join("c.yaml"), [0xff, 0xfe, 0x00]).unwrap();
    files.check("not text", &["b=10.0.0.8", "c=10.0.0.3"], &["c.yaml: it cannot be read"]);
    fs::remove_file(files.folder.path().join("c.yaml")).unwrap();
    files.check("removed while broken", &["b=10.0.0.8"], &[]);
}

#[test]
fn the_last_good_version_outlives_the_controller() {
    let mut files = Files::new();
    files.write("a.yaml", &pod("a", "10.0.0.1"));
    files.look();
    files.write("a.yaml", &pod("a", "nonsense"));
    files.check("broken", &["a=10.0.0.1"], &["nonsense"]);
    files.restart();
    files.check("restarted", &["a=10.0.0.1"], &["nonsense"]);
    files.write("a.yaml", &pod("a", "10.0.0.2"));
    files.check("repaired", &["a=10.0.0.2"], &[]);
    files.write("a.yaml", "# all gone\n");
    files.check("emptied", &[], &[]);
    files.restart();
    files.check("restarted again", &[], &[]);
}

#[test]
fn a_directory_that_vanishes_takes_nothing_with_it() {
    let mut files = Files::new();
    assert!(!Directory::impatient("/nowhere", files.state.path().join("kept.json")).read(&BTreeSet::new()).listed);
    files.write("a.yaml", &pod("a", "10.0.0.1"));
    files.check("good", &["a=10.0.0.1"], &[]);
    let (there, away) = (files.folder.path().to_owned(), files.state.path().join("away"));
    fs::rename(&there, &away).unwrap();
    files.check("gone", &["a=10.0.0.1"], &["the directory cannot be read"]);
    fs::rename(&away, &there).unwrap();
    files.check("back", &["a=10.0.0.1"], &[]);
}

#[test]
fn one_object_in_two_places_is_told_and_the_known_place_stays() {
    let mut files = Files::new();
    files.write("m.yaml", &pod("a", "10.0.0.1"));
    files.look();
    files.write("b.yaml", &pod("a", "10.0.0.2"));
    files.check("a second place", &["a=10.0.0.1"], &["b.yaml:1: Pod shop/a: the same object is in m.yaml:1"]);
    fs::remove_file(files.folder.path().join("m.yaml")).unwrap();
    files.check("the first is gone", &["a=10.0.0.2"], &[]);
}

#[test]
fn every_mistake_names_its_place_and_its_repair() {
    for (title, text, expected) in [
        (
            "no namespace",
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n".to_owned(),
            "a.yaml:3: Pod a: metadata.namespace: ",
        ),
        (
            "a namespace too many",
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, namespace: b}\n".to_owned(),
            "lives in no namespace",
        ),
        ("no kind", "apiVersion: v1\nmetadata: {name: a}\n".to_owned(), "kind: it is missing"),
        (
            "a kind of ours that is not",
            weft("RateLimitPolicy", "  x: 1\n"),
            "Weft has no kind \"RateLimitPolicy\"; write one of MeshConfig",
        ),
        (
            "a version of ours that is not",
            weft("MeshConfig", "  x: 1\n").replace("v1alpha1", "v1"),
            "Weft has no version \"weft.dev/v1\"",
        ),
        (
            "a label that is none of ours",
            pod("a", "10.0.0.1").replace("name: a\n", "name: a\n  labels: {weft.dev/capture: yes}\n"),
            "a.yaml:5: Pod shop/a: metadata.labels",
        ),
        (
            "a label with a typo",
            pod("a", "10.0.0.1").replace("name: a\n", "name: a\n  labels: {weft.dev/capture: enable}\n"),
            "write enabled, observe or disabled",
        ),
        (
            "a range with stray bits",
            weft(
                "AuthorizationPolicy",
                "  targetRefs: [{kind: Pod}]\n  action: Deny\n  rules:\n  - from:\n    - cidrs: [10.0.0.1/8]\n",
            ),
            "a.yaml:9: AuthorizationPolicy shop/x: spec.rules[0].from[0].cidrs[0]: \"10.0.0.1/8\" has address bits beyond its prefix; write 10.0.0.0/8",
        ),
        (
            "two kinds of target",
            weft(
                "AuthorizationPolicy",
                "  action: Deny\n  targetRefs:\n  - {kind: Pod}\n  - {kind: Service, name: a}\n",
            ),
            "a.yaml:8: AuthorizationPolicy shop/x: spec.targetRefs[1].kind: one policy has targets of one kind",
        ),
        (
            "a mesh of another name",
            "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: other}\nspec: {}\n".to_owned(),
            "name it default",
        ),
        ("a key twice", pod("a", "10.0.0.1").replace("name: a\n", "name: a\n  name: b\n"), "not YAML"),
    ] {
        check_defect(title, &text, expected);
    }
}

#[test]
fn the_agents_own_ports_are_nobody_elses() {
    for (title, text, expected) in [
        (
            "a rule for an agent's port",
            weft(
                "AuthenticationPolicy",
                "  targetRefs: [{kind: Pod}]\n  server:\n    ports: [{port: 61000, mtls: Permissive}]\n",
            ),
            "spec.server.ports[0].port: port 61000 is one of the agents' own, 61000 to 61063",
        ),
        (
            "an agent's port in a rule",
            weft(
                "AuthorizationPolicy",
                "  targetRefs: [{kind: Pod}]\n  action: Allow\n  rules: [{to: [{ports: [61063]}]}]\n",
            ),
            "spec.rules[0].to[0].ports[0]: port 61063 is one of the agents' own",
        ),
    ] {
        check_defect(title, &text, expected);
    }
}

fn weft(kind: &str, spec: &str) -> String {
    format!("apiVersion: weft.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: x, namespace: shop}}\nspec:\n{spec}")
}

fn check_defect(title: &str, text: &str, expected: &str) {
    let mut files = Files::new();
    files.write("a.yaml", text);
    let (_, told) = files.look();
    assert_eq!(told.len(), 1, "{title}: {told:?}");
    assert!(told[0].contains(expected), "{title}: {}", told[0]);
}

#[test]
fn what_is_not_wefts_business_is_left_alone() {
    let mut files = Files::new();
    files.write("a.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {replicas: three}\n");
    files.check("a Deployment", &[], &[]);
}

fn route(version: &str, spec: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/{version}\nkind: HTTPRoute\nmetadata: {{name: x, namespace: shop}}\nspec:\n{spec}"
    )
}

#[test]
fn a_route_with_a_mistake_names_its_place_and_its_repair() {
    let deep = "  rules:\n  - filters:\n    - type: URLRewrite\n      urlRewrite:\n        hostnam: a\n";
    for (title, text, expected) in [
        ("a version", route("v1alpha2", "  rules: [{}]\n"), "a.yaml:1: HTTPRoute x: apiVersion: "),
        ("a field beside the spec", route("v1", "  rules: [{}]\nspecs: 1\n"), "a.yaml:6: HTTPRoute shop/x: specs: "),
        ("no spec", route("v1", ""), "spec: "),
        ("an unknown field", route("v1", "  parents: []\n"), "a.yaml:5: HTTPRoute shop/x: spec.parents: unknown field"),
        (
            "one deep within",
            route("v1", deep),
            "a.yaml:9: HTTPRoute shop/x: spec.rules[0].filters[0].urlRewrite.hostnam: ",
        ),
        ("a wrong type", route("v1", "  rules:\n  - name: 7\n"), "a.yaml:6: HTTPRoute shop/x: spec.rules[0].name: "),
        ("a bad path", route("v1", "  rules: [{matches: [{path: {value: x}}]}]\n"), "write a path such as /api/v1"),
    ] {
        check_defect(title, &text, expected);
    }
}

#[test]
fn an_older_version_of_a_route_says_the_same() {
    let mut files = Files::new();
    files.write("a.yaml", &route("v1beta1", "  rules: [{}]\n"));
    let reading = files.directory.read(&BTreeSet::new());
    assert_eq!(reading.defects, []);
    assert!(reading.objects.of("shop").unwrap().http_routes.contains_key(&("shop".to_owned(), "x".to_owned())));
}

#[test]
fn two_pods_never_share_a_uid() {
    let mut files = Files::new();
    let with_uid =
        |name: &str, address: &str| pod(name, address).replace("namespace: shop\n", "namespace: shop\n  uid: same\n");
    files.write("a.yaml", &format!("{}---\n{}", with_uid("a", "10.0.0.1"), with_uid("b", "10.0.0.2")));
    files.check("one uid", &["a=10.0.0.1"], &["has the same uid"]);
}

#[test]
fn what_has_no_name_has_no_key() {
    let mut files = Files::new();
    files.write(
        "a.yaml",
        "apiVersion: weft.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: ../../../teamb/deny, namespace: shop}\n\
         spec:\n  targetRefs: [{kind: Pod}]\n  action: Deny\n",
    );
    let reading = files.directory.read(&BTreeSet::new());
    assert_eq!(reading.defects.len(), 1, "{:?}", reading.defects);
    assert_eq!(reading.defects[0].key, None);
}

/// A link to itself can be listed and not be looked at, whoever asks.
fn hide(path: &Path) {
    std::os::unix::fs::symlink(path, path).unwrap();
}

#[test]
fn what_cannot_be_looked_at_keeps_its_objects() {
    let mut files = Files::new();
    files.write("teams/shop/a.yaml", &pod("a", "10.0.0.1"));
    files.write("b.yaml", &pod("b", "10.0.0.2"));
    files.check("good", &["a=10.0.0.1", "b=10.0.0.2"], &[]);
    let (folder, file, away) =
        (files.folder.path().join("teams"), files.folder.path().join("b.yaml"), files.state.path().join("away"));
    fs::rename(&folder, &away).unwrap();
    hide(&folder);
    files.check("a folder", &["a=10.0.0.1", "b=10.0.0.2"], &["teams: it cannot be looked at"]);
    fs::remove_file(&file).unwrap();
    hide(&file);
    files.check("a file too", &["a=10.0.0.1", "b=10.0.0.2"], &["b.yaml: it cannot", "teams: it cannot"]);
    assert!(files.directory.read(&BTreeSet::new()).listed);
    files.restart();
    assert!(!files.directory.read(&BTreeSet::new()).listed, "what is hidden at the first look counted as absent");
    fs::remove_file(&file).unwrap();
    fs::remove_file(&folder).unwrap();
    fs::rename(&away, &folder).unwrap();
    files.check("seen, and one is gone", &["a=10.0.0.1"], &[]);
    assert!(files.directory.read(&BTreeSet::new()).listed);
}

#[test]
fn a_file_that_may_be_half_written_keeps_what_it_said() {
    let mut files = Files::new();
    files.write("a.yaml", &pod("a", "10.0.0.1"));
    files.check("good", &["a=10.0.0.1"], &[]);
    let age = |file: &str, age: Duration| {
        let file = fs::File::options().write(true).open(files.folder.path().join(file)).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    };
    files.directory.quiet = Duration::from_hours(1);
    fs::write(files.folder.path().join("a.yaml"), "apiVersion: v1\nkind: Deployment\n").unwrap();
    fs::write(files.folder.path().join("new.yaml"), pod("new", "10.0.0.2")).unwrap();
    age("a.yaml", Duration::from_mins(1));
    let look = |directory: &mut Directory, moved: &[&str]| {
        let moved = moved.iter().map(PathBuf::from).collect();
        directory.read(&moved).objects.pods().map(|pod| pod.metadata.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(look(&mut files.directory, &[]), ["a"], "a young file was read");
    assert!(files.directory.is_waiting());
    assert_eq!(look(&mut files.directory, &["new.yaml"]), ["a", "new"], "what is renamed into its place is whole");
    age("a.yaml", Duration::from_hours(2));
    assert_eq!(look(&mut files.directory, &[]), ["new"], "what has rested was not read");
    fs::write(files.folder.path().join(".beside"), pod("a", "10.0.0.9")).unwrap();
    fs::rename(files.folder.path().join(".beside"), files.folder.path().join("a.yaml")).unwrap();
    assert_eq!(look(&mut files.directory, &[]), ["a", "new"], "a file in place of the known one is whole");
}

#[test]
fn a_first_look_waits_for_young_files() {
    let mut files = Files::new();
    files.write("a.yaml", &pod("a", "10.0.0.1"));
    files.directory.quiet = Duration::from_hours(1);
    assert!(!files.directory.read(&BTreeSet::new()).listed, "a file that is not read yet counted as empty");
    files.directory.quiet = Duration::ZERO;
    files.check("rested", &["a=10.0.0.1"], &[]);
    assert!(files.directory.read(&BTreeSet::new()).listed && !files.directory.is_waiting());
}

#[test]
fn a_broken_mesh_config_without_a_last_good_one_withholds_everything() {
    let mesh = "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: default}\nspec: ";
    for broken in [format!("{mesh}{{enforced: {{minimumMtls: strict}}}}\n"), format!("{mesh}{{enforced: [\n")] {
        let mut files = Files::new();
        files.write("a.yaml", &pod("a", "10.0.0.1"));
        assert!(!files.directory.read(&BTreeSet::new()).withheld);
        files.write("mesh.yaml", &broken);
        assert!(files.directory.read(&BTreeSet::new()).withheld, "{broken}");
        files.write("mesh.yaml", &format!("{mesh}{{enforced: {{minimumMtls: Strict}}}}\n"));
        assert!(!files.directory.read(&BTreeSet::new()).withheld);
        files.write("mesh.yaml", &broken);
        let reading = files.directory.read(&BTreeSet::new());
        assert!(!reading.withheld && reading.objects.mesh_config.is_some(), "the last good one was not enough");
    }
}

#[test]
fn a_broken_authorization_policy_without_a_last_good_one_denies_its_namespace() {
    let policy = |action: &str| {
        format!(
            "apiVersion: weft.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{name: x, namespace: shop}}\nspec:\n  \
             targetRefs: [{{kind: Pod, selector: {{matchLabels: {{app: web}}}}}}]\n  action: {action}\n  rules: []\n"
        )
    };
    let name = ("shop".to_owned(), "x".to_owned());
    let mut files = Files::new();
    files.write("a.yaml", &pod("a", "10.0.0.1"));
    files.directory.read(&BTreeSet::new());
    files.write("x.yaml", &policy("allow"));
    let reading = files.directory.read(&BTreeSet::new());
    assert!(reading.stand_ins.is_empty(), "a policy that came broken has never been in force");
    for _ in 0..2 {
        files.restart();
        let reading = files.directory.read(&BTreeSet::new());
        let stand_in = &reading.objects.of(&name.0).unwrap().authorization[&name];
        assert_eq!(stand_in.action, weft_crd::Action::Deny);
        assert_eq!(stand_in.targets, [crate::object::Target::Pods(BTreeMap::new())], "every pod of the namespace");
        assert!(stand_in.rules[0].to.as_ref().is_some_and(|to| to.not && to.ports.is_empty()), "every port");
        assert_eq!(reading.stand_ins.len(), 1);
        let told = Reports::default().but(&Exceptions::of(&reading, BTreeMap::new()));
        assert!(
            told.iter().flat_map(|(_, reports)| reports).all(|report| report.message.contains("denies everything")),
            "{told:?}"
        );
    }
    files.write("x.yaml", &policy("Allow"));
    assert!(files.directory.read(&BTreeSet::new()).stand_ins.is_empty());
    files.write("x.yaml", &policy("allow"));
    let reading = files.directory.read(&BTreeSet::new());
    assert_eq!(
        reading.objects.of(&name.0).unwrap().authorization[&name].action,
        weft_crd::Action::Allow,
        "the last good version"
    );
    assert!(reading.stand_ins.is_empty());
}
