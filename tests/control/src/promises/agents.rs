//! What agents tell is what the mesh knows, whichever controller they told.

use anyhow::{Context as _, Result, bail, ensure};

use super::promise;
use crate::Promise;
use crate::agent::{Agent, Member, has, workload};
use crate::cluster::{Cluster, NAMESPACE};
use crate::controller::Controller;
use crate::objects;

pub fn promises() -> Vec<Promise> {
    vec![
        promise(
            "what_agents_serve_is_not_forgotten_by_the_next_controller",
            what_agents_serve_is_not_forgotten_by_the_next_controller,
        ),
        promise("a_holder_that_cannot_renew_takes_no_new_agents", a_holder_that_cannot_renew_takes_no_new_agents),
    ]
}

/// Another may lead by then, which this one cannot know.
fn a_holder_that_cannot_renew_takes_no_new_agents(cluster: &mut Cluster) -> Result<()> {
    cluster.put(&objects::mesh(&["10.1.0.0/16"]))?;
    let mut controller = Controller::start(cluster, "controller", 15010)?;
    let joined = |node: &str| Member::join(cluster, &controller, node);
    let (one, two) = (joined("one")?, joined("two")?);
    let (mut stands, mut led_away) = (one.subscribe(cluster, &controller)?, two.subscribe(cluster, &controller)?);
    stands.until(cluster, "the mesh", |held| has(held, "settings"))?;

    cluster.kill_api();
    controller.await_log("this controller no longer writes statuses")?;
    let refused = |outcome: Result<()>| -> Result<()> {
        let Err(refused) = outcome else { bail!("two controllers may tell agents") };
        ensure!(format!("{refused:#}").contains("another controller may lead by now"), "{refused:#}");
        Ok(())
    };
    refused(one.subscribe(cluster, &controller).map(drop))?;
    // One whose stream has ended asks on the connection that it has, and has to be led elsewhere.
    refused(led_away.ask_again(cluster).map_err(anyhow::Error::from))?;
    led_away.await_end(cluster)?;
    controller.await_status("it to say so", |status| status["leads"] == false)?;

    cluster.start_api(&[])?;
    controller.await_status("it to lead again", |status| status["leads"] == true)?;
    one.subscribe(cluster, &controller).context("it has come back and serves nobody")?;
    // What stood all the time has seen nothing of it.
    cluster.put(&objects::namespace("later", "enabled"))?;
    cluster.put(&objects::service("later", "web"))?;
    stands.until(cluster, "a change after the return", |held| has(held, "service/later/web"))?;
    controller.stop()
}

fn what_agents_serve_is_not_forgotten_by_the_next_controller(cluster: &mut Cluster) -> Result<()> {
    super::shop(cluster)?;
    let uid = cluster.get("Pod", "shop", "web")?["metadata"]["uid"].as_str().context("it has no uid")?.to_owned();
    let capable = |capable: bool| move |held: &_| workload(held, "web").is_some_and(|web| web.mesh_capable == capable);

    let mut first = Controller::launch_as_users_do(cluster, "first", 15010)?;
    first.await_log("this controller writes statuses")?;
    let mut agent = Agent::start(cluster, &first, "one")?;
    agent.report(cluster, std::slice::from_ref(&uid))?;
    agent.until(cluster, "the pod to speak mTLS", capable(true))?;
    cluster.put_status("Pod", NAMESPACE, "agent-one", &objects::running("10.1.0.200"))?;
    first.stop()?;

    // It has no memory, its lease goes by, and this agent tells it nothing.
    let mut second = Controller::launch_as_users_do(cluster, "second", 15011)?;
    second.await_generation()?;
    let mut agent = Agent::start(cluster, &second, "one")?;
    agent.until(cluster, "the pod", |held| workload(held, "web").is_some())?;
    ensure!(capable(true)(agent.held()), "a controller without a memory has downgraded a pod");
    // What the agent says then counts.
    agent.report(cluster, &[])?;
    agent.until(cluster, "the pod to speak no mTLS", capable(false))?;
    agent.report(cluster, &[uid])?;
    agent.until(cluster, "the pod to speak mTLS again", capable(true))?;
    second.stop()
}
