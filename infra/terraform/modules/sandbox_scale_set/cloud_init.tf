# A machine only runs the sandbox host's container. It is replaced, never repaired.
locals {
  port = var.settings["QLP_SANDBOX_HEALTH_PORT"]

  # By path, the mode and content of each file.
  files = {
    "/etc/qlp/sandbox.env" = {
      mode    = "0600"
      content = join("", [for name, value in merge(var.settings, { AZURE_CLIENT_ID = var.identity.client_id }) : "${name}=${value}\n"])
    }
    "/usr/local/sbin/qlp-registry-login" = {
      mode = "0755"
      content = templatefile("${path.module}/files/registry-login.sh.tftpl", {
        registry  = var.registry_server
        client_id = var.identity.client_id
      })
    }
    "/etc/systemd/system/qlp-sandbox.service" = {
      mode = "0644"
      content = templatefile("${path.module}/files/qlp-sandbox.service.tftpl", {
        image       = "${var.registry_server}/${var.image}"
        health_port = local.port
      })
    }
    "/etc/docker/daemon.json" = {
      mode    = "0644"
      content = jsonencode({ icc = false, log-driver = "journald", userland-proxy = false })
    }
    "/etc/sysctl.d/90-qlp.conf" = {
      mode    = "0644"
      content = <<-EOT
        kernel.dmesg_restrict = 1
        kernel.kptr_restrict = 2
        kernel.unprivileged_bpf_disabled = 1
        kernel.yama.ptrace_scope = 2
        net.core.bpf_jit_harden = 2
      EOT
    }
    # Protocols that nothing here uses, and through which kernels have been attacked.
    "/etc/modprobe.d/qlp.conf" = {
      mode    = "0644"
      content = join("", [for protocol in ["dccp", "rds", "sctp", "tipc", "vsock"] : "install ${protocol} /bin/false\n"])
    }
  }

  instructions = {
    package_update = var.source_image_id == null
    packages       = var.source_image_id == null ? ["curl", "docker.io", "jq"] : []
    write_files = [
      for path, file in local.files : { path = path, permissions = file.mode, content = file.content }
    ]
    runcmd = [
      ["sysctl", "--system"],
      ["systemctl", "disable", "--now", "ssh.service", "ssh.socket"],
      ["systemctl", "restart", "docker.service"],
      ["systemctl", "daemon-reload"],
      ["systemctl", "enable", "--now", "qlp-sandbox.service"],
    ]
  }

  cloud_init = "#cloud-config\n${yamlencode(local.instructions)}"
}
