{{/* Generated from crds/src/kuberpa/roles.py by `python -m kuberpa.generate`: change that instead. */}}

{{/* May give the roles for people, and no others. */}}
{{- define "kuberpa.bindRules" -}}
- apiGroups: [rbac.authorization.k8s.io]
  resources: [clusterroles]
  verbs: [bind]
  resourceNames: [kuberpa-viewer, kuberpa-operate, kuberpa-develop, kuberpa-admin]
{{- end }}

{{/* What a role on some robots is made of: the operator holds it in order to give it. */}}
{{- define "kuberpa.givenRules" -}}
- apiGroups: [kuberpa.dev]
  resources: [robots]
  verbs: [get, list, watch, patch, update, delete]
- apiGroups: [kuberpa.dev]
  resources: [robots/activities]
  verbs: [get, list, watch]
- apiGroups: [kuberpa.dev]
  resources: [robots/log, robots/recording, robots/audit]
  verbs: [get]
- apiGroups: [kuberpa.dev]
  resources: [robots/storage]
  verbs: [get, update]
- apiGroups: [kuberpa.dev]
  resources: [robots/run, robots/stop, robots/control, robots/terminal, robots/console, robots/debug, robots/host]
  verbs: [create]
- apiGroups: [kuberpa.dev]
  resources: [robots/session]
  verbs: [get, create]
- apiGroups: [kuberpa.dev]
  resources: [robots/processes]
  verbs: [get, delete]
- apiGroups: [kuberpa.dev]
  resources: [robots/files]
  verbs: [get, create, delete]
- apiGroups: [kuberpa.dev]
  resources: [robots/enrolment]
  verbs: [create, delete]
- apiGroups: [kuberpa.dev]
  resources: [activityitems]
  verbs: [create, patch]
{{- end }}

{{/* CEL: the ClusterRole of each role. */}}
{{- define "kuberpa.clusterRoles" -}}
{'Viewer': 'kuberpa-viewer', 'Operator': 'kuberpa-operate', 'Developer': 'kuberpa-develop', 'Admin': 'kuberpa-admin'}
{{- end }}
