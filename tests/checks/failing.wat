;; A plugin whose check crashes. It exports the contract's `plugin` and `checks`.
(component
  (core module $code
    (memory (export "memory") 1)
    (data (i32.const 0) "failing")
    (data (i32.const 8) "1.0.0")
    ;; The description: pointer and length of name, version, summary, settings, attributes.
    (data (i32.const 64) "\00\00\00\00\07\00\00\00" "\08\00\00\00\05\00\00\00")
    (func (export "allocate") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
    (func (export "describe") (result i32) (i32.const 64))
    (func (export "check") (param i32 i32) (result i32) unreachable))
  (core instance $code (instantiate $code))
  (alias core export $code "memory" (core memory $memory))
  (alias core export $code "allocate" (core func $allocate))

  (type $kind (enum "text" "secret" "integer" "number" "boolean" "duration" "url" "host" "port" "unix-socket" "file"
    "tls-skip-verify" "tls-mode"))
  (type $setting (record (field "key" string) (field "kind" $kind) (field "default" (option string))
    (field "required" bool) (field "repeatable" bool) (field "help" string)))
  (type $description (record (field "name" string) (field "version" string) (field "summary" string)
    (field "settings" (list $setting)) (field "attributes" (list (tuple string string)))))
  (func $describe (result $description)
    (canon lift (core func $code "describe") (memory (core memory $memory))))
  (instance $plugin
    (export "setting-kind" (type $kind))
    (export "setting" (type $setting))
    (export "description" (type $description))
    (export "describe" (func $describe)))
  (export "wasaba:plugin/plugin@0.1.0" (instance $plugin))

  (type $status (enum "ok" "warning" "critical" "unknown"))
  (type $report (record (field "status" $status) (field "message" string)
    (field "attributes" (list (tuple string string)))))
  (func $check (param "settings" (list (tuple string string))) (result $report)
    (canon lift (core func $code "check") (memory (core memory $memory)) (realloc (core func $allocate))))
  (instance $checks
    (export "status" (type $status))
    (export "report" (type $report))
    (export "check" (func $check)))
  (export "wasaba:plugin/checks@0.1.0" (instance $checks)))
