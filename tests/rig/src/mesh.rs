//! Whole meshes, put together in sentences.
//!
//! The plan comes first ([`Mesh::two_nodes`] and what follows), then [`MeshPlan::start`] makes it real:
//! fabric, nodes, pods, objects, controller, agents. [`Mesh`] then changes it while it runs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::binaries::Binaries;
use crate::controller::Controller;
use crate::directory::Directory;
use crate::fabric::Fabric;
use crate::node::{AgentPlan, Folders, Node};
use crate::object::{self, Member, Name, PodPlan, ServicePlan};
use crate::place::Launch;
use crate::pod::Pod;
use crate::proxy;
use crate::sandbox::Sandbox;

/// An agent that has not enrolled its pods by then never will.
const ENROLMENT_LIMIT: Duration = Duration::from_secs(20);
/// Counts meshes of this program, so that each has folders of its own.
static SERIAL: AtomicU32 = AtomicU32::new(1);

/// What is wanted.
#[derive(Debug)]
pub struct MeshPlan {
    nodes: usize,
    namespaces: Vec<Value>,
    objects: Vec<Value>,
    pods: Vec<PodPlan>,
    services: Vec<ServicePlan>,
    binaries: Option<Binaries>,
    agents: bool,
    workers: usize,
    agent_flags: Vec<String>,
    controller_flags: Vec<String>,
}

impl MeshPlan {
    /// A Namespace with labels.
    #[must_use]
    pub fn namespace(mut self, name: &str, labels: &[(&str, &str)]) -> Self {
        self.namespaces.push(object::namespace(name, labels));
        self
    }

    /// A pod.
    #[must_use]
    pub fn pod(mut self, plan: PodPlan) -> Self {
        self.pods.push(plan);
        self
    }

    /// A Service.
    #[must_use]
    pub fn service(mut self, plan: ServicePlan) -> Self {
        self.services.push(plan);
        self
    }

    /// Any other object, there from the beginning.
    #[must_use]
    pub fn object(mut self, object: Value) -> Self {
        self.objects.push(object);
        self
    }

    /// With a controller.
    #[must_use]
    pub fn controller(mut self, binaries: &Binaries) -> Self {
        self.binaries = Some(binaries.clone());
        self
    }

    /// With an agent on every node (which needs a controller).
    #[must_use]
    pub fn agents(mut self) -> Self {
        self.agents = true;
        self
    }

    /// Worker threads of each agent.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// A further flag for the agents.
    #[must_use]
    pub fn agent_flag(mut self, flag: &str) -> Self {
        self.agent_flags.push(flag.to_owned());
        self
    }

    /// A further flag for the controller.
    #[must_use]
    pub fn controller_flag(mut self, flag: &str) -> Self {
        self.controller_flags.push(flag.to_owned());
        self
    }

    /// Makes it real and waits until every captured pod is enrolled.
    pub fn start(self, sandbox: &Sandbox) -> Result<Mesh> {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let scratch = sandbox.scratch().join(format!("mesh{serial}"));
        let cgroup = sandbox.cgroup().join(format!("mesh{serial}"));
        let pins = sandbox.bpffs().join(format!("mesh{serial}"));
        let fabric = Fabric::create()?;
        let folders = Folders { cgroup: &cgroup, scratch: &scratch, pins: &pins };
        let nodes = (1..=self.nodes)
            .map(|number| Node::create(&fabric, number, self.nodes, &folders))
            .collect::<Result<_>>()?;
        let directory = Directory::create(scratch.join("objects"))?;
        let mut mesh = Mesh {
            directory,
            services: self.services,
            pods: BTreeMap::new(),
            nodes,
            controller: None,
            fabric,
            scratch,
            hosts_file: sandbox.hosts_file(),
            next_uid: 1,
            agent_plans: Vec::new(),
        };
        for object in std::iter::once(object::mesh_config()).chain(self.namespaces).chain(self.objects) {
            mesh.directory.apply(object)?;
        }
        for plan in &self.pods {
            mesh.create_pod(plan)?;
        }
        mesh.write_services()?;
        if let Some(binaries) = &self.binaries {
            mesh.start_controller(binaries, &self.controller_flags)?;
            if self.agents {
                mesh.start_agents(binaries, self.workers, &self.agent_flags)?;
            }
        }
        Ok(mesh)
    }
}

/// A running mesh. What it holds ends with it.
#[derive(Debug)]
pub struct Mesh {
    // Dropped in this order: agents before the pods that they would mourn in their logs.
    nodes: Vec<Node>,
    controller: Option<Controller>,
    pods: BTreeMap<Name, Pod>,
    directory: Directory,
    services: Vec<ServicePlan>,
    fabric: Fabric,
    scratch: PathBuf,
    hosts_file: PathBuf,
    next_uid: u32,
    agent_plans: Vec<AgentPlan>,
}

impl Mesh {
    /// A plan with two nodes.
    #[must_use]
    pub fn two_nodes() -> MeshPlan {
        Self::of_nodes(2)
    }

    /// A plan with any number of nodes up to 200.
    #[must_use]
    pub fn of_nodes(nodes: usize) -> MeshPlan {
        MeshPlan {
            nodes,
            namespaces: Vec::new(),
            objects: Vec::new(),
            pods: Vec::new(),
            services: Vec::new(),
            binaries: None,
            agents: false,
            workers: 2,
            agent_flags: Vec::new(),
            controller_flags: Vec::new(),
        }
    }

    /// The network between the nodes.
    #[must_use]
    pub fn fabric(&self) -> &Fabric {
        &self.fabric
    }

    /// A folder of this mesh on the tmpfs.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// The objects. Changes of Services and `EndpointSlices` made here are not followed by the stand-in for kube-proxy.
    pub fn directory(&mut self) -> &mut Directory {
        &mut self.directory
    }

    /// A node, counted from 1.
    pub fn node(&mut self, number: usize) -> Result<&mut Node> {
        self.nodes.get_mut(number - 1).with_context(|| format!("there is no node {number}"))
    }

    /// A pod by its name.
    pub fn pod(&self, name: &str) -> Result<&Pod> {
        self.pods.get(&Name::parse(name)).with_context(|| format!("there is no pod {name}"))
    }

    /// A pod by its name, to start programs in it.
    pub fn pod_mut(&mut self, name: &str) -> Result<&mut Pod> {
        self.pods.get_mut(&Name::parse(name)).with_context(|| format!("there is no pod {name}"))
    }

    /// All pods.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values()
    }

    /// The controller.
    pub fn controller(&mut self) -> Result<&mut Controller> {
        self.controller.as_mut().context("this mesh has no controller")
    }

    /// `weft`, asking every agent and the controller of this mesh.
    pub fn weft(&self, cli: &Path) -> Result<Launch> {
        let nodes = self.nodes.iter().map(Node::run_dir);
        let command = nodes.fold(Launch::new(cli), |command, folder| command.arg("--run-dir").arg(folder));
        let controller = self.controller.as_ref().context("this mesh has no controller")?;
        Ok(command.arg("--controller-socket").arg(controller.state_dir().join("admin.sock")))
    }

    // ---- changes ----------------------------------------------------------------------------

    /// A pod more, behind the Services whose selectors it matches.
    pub fn add_pod(&mut self, plan: &PodPlan) -> Result<()> {
        self.create_pod(plan)?;
        self.write_services()
    }

    /// Ends a pod and takes its objects away.
    pub fn remove_pod(&mut self, name: &str) -> Result<()> {
        let name = Name::parse(name);
        let pod = self.pods.remove(&name).with_context(|| format!("there is no pod {name}"))?;
        self.directory.remove("Pod", &name.namespace, &name.name)?;
        self.write_services()?;
        pod.remove()
    }

    /// Ends the processes and the namespace of a pod, while its object still stands.
    pub fn vanish_pod(&mut self, name: &str) -> Result<()> {
        let name = Name::parse(name);
        self.pods.remove(&name).with_context(|| format!("there is no pod {name}"))?.remove()
    }

    /// Tells the Services that a pod is ready, or is not.
    pub fn set_ready(&mut self, name: &str, ready: bool) -> Result<()> {
        let pod = self.pod_mut(name)?;
        pod.ready = ready;
        let object = object_of(pod);
        self.directory.apply(object)?;
        self.write_services()
    }

    /// The address of a Service.
    pub fn service_ipv4(&self, name: &str) -> Result<IpAddr> {
        let name = Name::parse(name);
        let index = self.services.iter().position(|service| service.name == name);
        Ok(service_addresses(index.with_context(|| format!("there is no Service {name}"))?)[0])
    }

    /// Makes a Service again what its plan says, after the directory was told otherwise.
    pub fn restore_service(&mut self, name: &str) -> Result<()> {
        let name = Name::parse(name);
        let index = self.services.iter().position(|service| service.name == name);
        let index = index.with_context(|| format!("there is no Service {name}"))?;
        self.directory.apply(object::service(&self.services[index], &service_addresses(index))).map(drop)
    }

    fn create_pod(&mut self, plan: &PodPlan) -> Result<()> {
        let uid = format!("{:08x}-0000-4000-8000-{:012x}", self.next_uid, std::process::id());
        self.next_uid += 1;
        let scratch = self.scratch.join("pods");
        let pod = self.node(plan.node)?.add_pod(plan, &uid, &scratch)?;
        self.directory.apply(object_of(&pod))?;
        self.pods.insert(plan.name.clone(), pod);
        Ok(())
    }

    /// What the endpoint controller and kube-proxy would do.
    fn write_services(&mut self) -> Result<()> {
        let mut hosts = "127.0.0.1 localhost\n::1 localhost\n".to_owned();
        for (index, plan) in self.services.iter().enumerate() {
            let addresses = service_addresses(index);
            let members: Vec<Member> = self.pods.values().filter(|pod| selects(plan, pod)).map(member_of).collect();
            self.directory.apply(object::service(plan, &addresses))?;
            for family in ["IPv4", "IPv6"] {
                self.directory.apply(object::endpoint_slice(plan, family, &members))?;
            }
            let name = &plan.name;
            for address in addresses {
                writeln!(hosts, "{address} {n}.{s} {n}.{s}.svc.cluster.local", n = name.name, s = name.namespace)?;
            }
        }
        // In place: the file is mounted, and a renamed one would be another file.
        fs::write(&self.hosts_file, hosts)?;
        let ruleset = proxy::ruleset(&self.directory);
        self.nodes.iter().try_for_each(|node| node.load_rules(&ruleset))
    }

    // ---- controller and agents --------------------------------------------------------------

    fn start_controller(&mut self, binaries: &Binaries, flags: &[String]) -> Result<()> {
        let folder = self.scratch.join("controller");
        let controller = Controller::start(binaries, &self.fabric, self.directory.path(), &folder, flags)?;
        self.controller = Some(controller);
        Ok(())
    }

    fn start_agents(&mut self, binaries: &Binaries, workers: usize, flags: &[String]) -> Result<()> {
        for number in 1..=self.nodes.len() {
            let plan = self.plan_agent(binaries, number, workers, flags)?;
            self.node(number)?.start_agent(&plan)?;
            self.agent_plans.push(plan);
        }
        self.await_enrolled(ENROLMENT_LIMIT)
    }

    /// How the agent of a node is started, with a join token of its own.
    pub fn plan_agent(
        &mut self,
        binaries: &Binaries,
        number: usize,
        workers: usize,
        flags: &[String],
    ) -> Result<AgentPlan> {
        let name = object::node_name(number);
        let token = self.controller()?.create_token(&name)?;
        let controller = self.controller()?;
        Ok(AgentPlan {
            binary: binaries.agent.clone(),
            controller: controller.address(),
            certificate: controller.certificate(),
            token,
            workers,
            flags: flags.to_vec(),
        })
    }

    /// How the agent of a node was started.
    pub fn agent_plan(&self, number: usize) -> Result<AgentPlan> {
        self.agent_plans.get(number - 1).cloned().with_context(|| format!("node {number} has no agent"))
    }

    /// Starts the agent of a node again, as it was started first.
    pub fn restart_agent(&mut self, number: usize) -> Result<()> {
        let plan = self.agent_plan(number)?;
        self.node(number)?.start_agent(&plan).map(drop)
    }

    /// Waits until every pod is enrolled that the labels want to be captured, and released that they do not.
    pub fn await_enrolled(&mut self, limit: Duration) -> Result<()> {
        for number in 1..=self.nodes.len() {
            let (wanted, others): (Vec<_>, Vec<_>) =
                self.pods.values().filter(|pod| pod.node() == number).partition(|pod| self.is_captured(pod));
            let names = |pods: Vec<&Pod>| pods.into_iter().map(|pod| pod.name().to_string()).collect::<Vec<_>>();
            let (wanted, others) = (names(wanted), names(others));
            let node = self.node(number)?;
            node.await_pods(&wanted, true, limit)?;
            node.await_pods(&others, false, limit)?;
        }
        Ok(())
    }

    fn is_captured(&self, pod: &Pod) -> bool {
        let name = pod.name();
        let label = |object: &Value| object["metadata"]["labels"]["weft.dev/capture"].as_str().map(str::to_owned);
        let of_pod = self.directory.get("Pod", &name.namespace, &name.name).and_then(label);
        let of_namespace = || self.directory.get("Namespace", "", &name.namespace).and_then(label);
        of_pod.or_else(of_namespace).as_deref() == Some("enabled")
    }
}

fn object_of(pod: &Pod) -> Value {
    let netns = pod.namespace().path().display().to_string();
    object::pod(pod.plan(), pod.uid(), &netns, pod.addresses(), pod.ready)
}

fn member_of(pod: &Pod) -> Member {
    let (uid, addresses) = (pod.uid().to_owned(), pod.addresses().to_vec());
    Member { pod: pod.name().clone(), uid, node: pod.node(), addresses, ready: pod.ready }
}

fn selects(service: &ServicePlan, pod: &Pod) -> bool {
    let labels = &pod.plan().labels;
    service.name.namespace == pod.name().namespace
        && !service.selector.is_empty()
        && service.selector.iter().all(|wanted| labels.contains(wanted))
}

/// Services live in 10.96.0.0/16 and `fd96::/112`.
fn service_addresses(index: usize) -> [IpAddr; 2] {
    let number = u16::try_from(index + 10).unwrap_or(u16::MAX);
    let [high, low] = number.to_be_bytes();
    [Ipv4Addr::new(10, 96, high, low).into(), Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, number).into()]
}
