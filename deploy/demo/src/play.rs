//! After the last scene: the mesh stays, and a shell of its own is described to whoever wants to look.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::Result;
use weft_rig::Sandbox;

use crate::screen::Screen;
use crate::stage::Stage;

/// Writes small commands into the sandbox, says how to use them, and waits to be interrupted.
pub fn keep(stage: &mut Stage, sandbox: &Sandbox, screen: &Screen) -> Result<()> {
    let folder = sandbox.scratch().join("bin");
    fs::create_dir_all(&folder)?;
    for pod in stage.mesh.pods() {
        let (name, netns) = (pod.name(), pod.namespace().path().display());
        let members = pod.cgroup().join("cgroup.procs");
        let script = format!(
            "#!/bin/sh\n# Runs a command in the pod {name}.\necho 0 > {}\nexec nsenter --net={netns} \"$@\"\n",
            members.display()
        );
        write_script(&folder.join(format!("in-{}-{}", name.namespace, name.name)), &script)?;
    }
    let weft = stage.mesh.weft(&stage.binaries.cli)?.line();
    write_script(&folder.join("weft"), &format!("#!/bin/sh\nexec {weft} \"$@\"\n"))?;
    screen.say("");
    screen.say("The mesh stays until Ctrl-C. In another terminal, as root:");
    screen.typed(
        "you",
        &format!("nsenter --target {} --mount --pid env PATH={}:$PATH bash", sandbox.outer_pid(), folder.display()),
    );
    for line in [
        "in-shop-customer curl http://web.shop/",
        "in-outside-intruder curl http://web.shop/",
        "weft status",
        "weft why outside/intruder shop/web-2:8080",
    ] {
        screen.quote(line);
    }
    screen.quote(&format!("the objects: {}", stage.mesh.directory().path().display()));
    // Ctrl-C ends the outer process, and with it this one: there is nothing else to wait for.
    loop {
        std::thread::park();
    }
}

fn write_script(path: &std::path::Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}
