{{/* The verbs of each process: what its code calls, and nothing else. */}}

{{- define "kuberpa.operatorRules" -}}
- apiGroups: [kuberpa.dev]
  resources: [robotfleets, schedules, workqueues, calendars, robotrolebindings]
  verbs: [list, watch]
- apiGroups: [kuberpa.dev]  # patch: the finalizer that keeps a host while a robot works on it
  resources: [robothosts]
  verbs: [list, watch, patch]
- apiGroups: [kuberpa.dev]  # fleets: their members come, change and go; update is asked for by the admission policies
  resources: [robots]
  verbs: [list, watch, create, update, patch, delete]
- apiGroups: [kuberpa.dev]
  resources: [activityitems]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [kuberpa.dev]
  resources: [robots/status, activityitems/status, schedules/status, workqueues/status, calendars/status, robotfleets/status, robothosts/status, robotrolebindings/status]
  verbs: [patch]
- apiGroups: [kuberpa.dev]  # asked for by the admission policies: it runs and stops for the users of Schedules
  resources: [robots/run, robots/stop, robots/control, robots/session, robots/host]
  verbs: [create]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, create, delete]
- apiGroups: [""]
  resources: [serviceaccounts]  # delete: one of a former robot of the name, which waits to be collected
  verbs: [get, create, delete]
- apiGroups: [policy]  # robots at work are not evicted
  resources: [poddisruptionbudgets]
  verbs: [create, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
- apiGroups: [rbac.authorization.k8s.io]  # what RobotRoleBindings are made into
  resources: [roles, rolebindings]
  verbs: [get, list, watch, create, patch, delete]
{{ include "kuberpa.bindRules" . }}
{{ include "kuberpa.givenRules" . }}
{{- end }}

{{- define "kuberpa.operatorLeaseRules" -}}
- apiGroups: [kuberpa.dev]  # the settings that count are in its own namespace
  resources: [gsettings]
  verbs: [list, watch]
- apiGroups: [coordination.k8s.io]  # its own, and those of the panel's replicas
  resources: [leases]
  verbs: [get, list, watch, create, update]
{{- end }}

{{- define "kuberpa.panelRules" -}}
- apiGroups: [kuberpa.dev]
  resources: [robots]  # patch: start, pause, stop and restart for its own users, and no more: it has no update
  verbs: [get, list, watch, patch]
- apiGroups: [kuberpa.dev]
  resources: [schedules]  # patch: run now, pause, resume and backfill for its own users
  verbs: [list, watch, patch]
- apiGroups: [kuberpa.dev]
  resources: [workqueues]  # patch: pause and resume for its own users, and no more: it has no update
  verbs: [list, watch, patch]
- apiGroups: [kuberpa.dev]
  resources: [robotfleets, robothosts, calendars]
  verbs: [list, watch]
- apiGroups: [kuberpa.dev]
  resources: [gsettings]  # create, update: changes for its own users
  verbs: [list, watch, create, update]
- apiGroups: [kuberpa.dev]
  resources: [robotfleets/scale]
  verbs: [patch]
- apiGroups: [kuberpa.dev]
  resources: [robotrolebindings]
  verbs: [list, watch]
- apiGroups: [rbac.authorization.k8s.io]  # who may what, by name: asking about each robot would take too long
  resources: [roles, rolebindings]
  verbs: [list, watch]
{{- if .Values.panel.manageAccess }}
- apiGroups: [kuberpa.dev]  # for its own users who may give that role
  resources: [robotrolebindings]
  verbs: [create, update, delete]
{{ include "kuberpa.bindRules" . }}
{{- end }}
- apiGroups: [kuberpa.dev]
  resources: [activityitems]
  verbs: [list, watch, create, patch]
- apiGroups: [kuberpa.dev]
  resources: [robots/status, activityitems/status, schedules/status, workqueues/status]
  verbs: [patch]
- apiGroups: [kuberpa.dev]  # asked for by the admission policies: it runs, stops and pauses for its own users
  resources: [robots/run, robots/stop, robots/control, robots/session, robots/host, workqueues/items, workqueues/pause]
  verbs: [create]
- apiGroups: [events.k8s.io]  # of kuberpa's objects and robots' pods, for the log
  resources: [events]
  verbs: [list, watch]
{{- end }}

{{- define "kuberpa.panelClusterRules" -}}
- apiGroups: [authentication.k8s.io]
  resources: [tokenreviews]
  verbs: [create]
- apiGroups: [authorization.k8s.io]
  resources: [subjectaccessreviews]
  verbs: [create]
- apiGroups: [rbac.authorization.k8s.io]  # as roles and rolebindings
  resources: [clusterroles, clusterrolebindings]
  verbs: [list, watch]
{{- end }}

{{- define "kuberpa.panelLeaseRules" -}}
{{- if .Values.watchNamespaces }}
- apiGroups: [kuberpa.dev]  # its own namespace need not be among those that it serves
  resources: [gsettings]
  verbs: [list, watch, create, update]
{{- end }}
- apiGroups: [coordination.k8s.io]  # its own, by the name of the replica; get: another's address; list: the page System
  resources: [leases]
  verbs: [get, list, create, patch, delete]
- apiGroups: [apps]  # the page System; patch: restarts of operator and panel for those who may patch deployments there
  resources: [deployments]
  verbs: [list, patch]
- apiGroups: [""]  # the page System, for those who may list pods and get pods/log there
  resources: [pods]
  verbs: [list]
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
{{- end }}
