package log

import wit "wasaba.dev/plugin/internal/wit/imports/wasaba_plugin_log"

var levels = map[string]wit.Level{"debug": wit.Level_Debug, "info": wit.Level_Info, "warning": wit.Level_Warning, "error": wit.Level_Error}

func write(level, line string) { wit.Write(levels[level], line) }
