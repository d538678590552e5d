{{- define "weft.labels" -}}
app.kubernetes.io/part-of: weft
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "weft.tag" -}}
{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* What the agent's process may do and see on its node. Not privileged: each thing by name, with its reason. */}}
{{- define "weft.agent.place" -}}
securityContext:
  privileged: false
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  # Files below /proc, /sys and /run/weft are root's.
  runAsUser: 0
  # The runtime's own filter: it lets bpf() and setns() through for those who have the capabilities below.
  seccompProfile: {type: RuntimeDefault}
  # The runtimes' profile forbids what an agent is for: writing below /sys/fs/bpf, and looking at other processes' namespaces.
  appArmorProfile: {type: Unconfined}
  {{- with .Values.agent.seLinuxOptions }}
  seLinuxOptions:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  capabilities:
    drop: [ALL]
    add:
      # Enters a pod's network namespace (setns), and loads and attaches programs: it includes what BPF would allow.
      - SYS_ADMIN
      # Makes the map of listening sockets (kernels before 6.5 accept nothing else for it).
      - NET_ADMIN
      # Opens /proc/PID/ns/net of processes that are not root's.
      - SYS_PTRACE
volumeMounts:
  # Pins of programs, links and maps: they outlive the agent.
  - {name: bpf, mountPath: /sys/fs/bpf, mountPropagation: HostToContainer}
  # The pods' cgroups, where programs are attached, and the agent's own.
  - {name: cgroups, mountPath: /sys/fs/cgroup, mountPropagation: HostToContainer}
  # ip_local_reserved_ports and tcp_tw_reuse of pods' namespaces; the container's own /proc/sys cannot be written.
  - {name: sysctls, mountPath: /host/proc/sys}
  # Keys (a tmpfs: a reboot forgets them), the admin socket, the hand-over to a successor.
  - {name: run, mountPath: /run/weft}
  # The last snapshot, for a start without a controller.
  - {name: state, mountPath: /var/lib/weft}
  # The names of pods' folders of logs, by which new pods are known while no controller tells of them.
  - {name: logs, mountPath: /var/log/pods, readOnly: true}
  # Whether this pod serves.
  - {name: pod, mountPath: /run/pod}
  # Whom to believe: the mesh's root, published by the controller.
  - {name: trust, mountPath: /etc/weft/trust, readOnly: true}
  # This node's proof of itself; renewed by the kubelet.
  - {name: token, mountPath: /var/run/secrets/weft, readOnly: true}
{{- end }}
