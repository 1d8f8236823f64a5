# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_wasaba_global_optspecs
    string join \n conf= root= apibase= apikey= pidfile= role= diagnostic= v/verbose= private-autoshutdown= child= h/help
end

function __fish_wasaba_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_wasaba_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_wasaba_using_subcommand
    set -l cmd (__fish_wasaba_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c wasaba -n "__fish_wasaba_needs_command" -l conf -d 'The configuration file [default: /etc/mackerel-agent/mackerel-agent.conf]' -r -F
complete -c wasaba -n "__fish_wasaba_needs_command" -l root -d 'The folder of the agent\'s own files' -r -F
complete -c wasaba -n "__fish_wasaba_needs_command" -l apibase -d 'Where Mackerel\'s API is' -r
complete -c wasaba -n "__fish_wasaba_needs_command" -l apikey -d 'The API key; visible to every user of this machine, so better put it into the configuration file' -r
complete -c wasaba -n "__fish_wasaba_needs_command" -l pidfile -d 'The file for the process id' -r -F
complete -c wasaba -n "__fish_wasaba_needs_command" -l role -d 'What the host is there for, Service:role; several times or separated by commas' -r
complete -c wasaba -n "__fish_wasaba_needs_command" -l diagnostic -d 'Post what the agent itself takes, too' -r
complete -c wasaba -n "__fish_wasaba_needs_command" -s v -l verbose -d 'Log more' -r
complete -c wasaba -n "__fish_wasaba_needs_command" -l private-autoshutdown -d 'End when the program\'s file is replaced or deleted' -r
complete -c wasaba -n "__fish_wasaba_needs_command" -l child -d 'Run below `supervise`, which has the pid file' -r
complete -c wasaba -n "__fish_wasaba_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wasaba -n "__fish_wasaba_needs_command" -f -a "configtest" -d 'Read the configuration and say what is wrong with it'
complete -c wasaba -n "__fish_wasaba_needs_command" -f -a "init" -d 'Write the API key into the configuration, if there is none yet'
complete -c wasaba -n "__fish_wasaba_needs_command" -f -a "once" -d 'Collect once and print the host and its metrics as JSON; nothing is posted or stored'
complete -c wasaba -n "__fish_wasaba_needs_command" -f -a "retire" -d 'Tell Mackerel that this host is no more'
complete -c wasaba -n "__fish_wasaba_needs_command" -f -a "run" -d 'Run in the foreground, as without a command'
complete -c wasaba -n "__fish_wasaba_needs_command" -f -a "supervise" -d 'Run the agent as a child process, and again when it dies'
complete -c wasaba -n "__fish_wasaba_needs_command" -f -a "container" -d 'Run as the first process of a container, with what the variables of the official image say'
complete -c wasaba -n "__fish_wasaba_needs_command" -f -a "health" -d 'Say whether the running agent does its work; exit code 1 if not'
complete -c wasaba -n "__fish_wasaba_needs_command" -f -a "plugin" -d 'Run and inspect plugins'
complete -c wasaba -n "__fish_wasaba_needs_command" -f -a "completion" -d 'Print a script that completes command lines, for bash, zsh or fish'
complete -c wasaba -n "__fish_wasaba_needs_command" -f -a "version" -d 'Print the version'
complete -c wasaba -n "__fish_wasaba_using_subcommand configtest" -l conf -d 'The configuration file [default: /etc/mackerel-agent/mackerel-agent.conf]' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand configtest" -l root -d 'The folder of the agent\'s own files' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand configtest" -l apibase -d 'Where Mackerel\'s API is' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand configtest" -l apikey -d 'The API key; visible to every user of this machine, so better put it into the configuration file' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand configtest" -l pidfile -d 'The file for the process id' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand configtest" -l role -d 'What the host is there for, Service:role; several times or separated by commas' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand configtest" -l diagnostic -d 'Post what the agent itself takes, too' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand configtest" -s v -l verbose -d 'Log more' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand configtest" -l private-autoshutdown -d 'End when the program\'s file is replaced or deleted' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand configtest" -l child -d 'Run below `supervise`, which has the pid file' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand configtest" -s h -l help -d 'Print help'
complete -c wasaba -n "__fish_wasaba_using_subcommand init" -l conf -d 'The configuration file' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand init" -l apikey -d 'The API key' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand init" -l apibase -d 'Where Mackerel\'s API is' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand init" -s h -l help -d 'Print help'
complete -c wasaba -n "__fish_wasaba_using_subcommand once" -l conf -d 'The configuration file [default: /etc/mackerel-agent/mackerel-agent.conf]' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand once" -l root -d 'The folder of the agent\'s own files' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand once" -l apibase -d 'Where Mackerel\'s API is' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand once" -l apikey -d 'The API key; visible to every user of this machine, so better put it into the configuration file' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand once" -l pidfile -d 'The file for the process id' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand once" -l role -d 'What the host is there for, Service:role; several times or separated by commas' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand once" -l diagnostic -d 'Post what the agent itself takes, too' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand once" -s v -l verbose -d 'Log more' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand once" -l private-autoshutdown -d 'End when the program\'s file is replaced or deleted' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand once" -l child -d 'Run below `supervise`, which has the pid file' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand once" -s h -l help -d 'Print help'
complete -c wasaba -n "__fish_wasaba_using_subcommand retire" -l conf -d 'The configuration file [default: /etc/mackerel-agent/mackerel-agent.conf]' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand retire" -l root -d 'The folder of the agent\'s own files' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand retire" -l apibase -d 'Where Mackerel\'s API is' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand retire" -l apikey -d 'The API key; visible to every user of this machine, so better put it into the configuration file' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand retire" -l pidfile -d 'The file for the process id' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand retire" -l role -d 'What the host is there for, Service:role; several times or separated by commas' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand retire" -l diagnostic -d 'Post what the agent itself takes, too' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand retire" -s v -l verbose -d 'Log more' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand retire" -l private-autoshutdown -d 'End when the program\'s file is replaced or deleted' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand retire" -l child -d 'Run below `supervise`, which has the pid file' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand retire" -l force -d 'Do not ask' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand retire" -s h -l help -d 'Print help'
complete -c wasaba -n "__fish_wasaba_using_subcommand run" -l conf -d 'The configuration file [default: /etc/mackerel-agent/mackerel-agent.conf]' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand run" -l root -d 'The folder of the agent\'s own files' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand run" -l apibase -d 'Where Mackerel\'s API is' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand run" -l apikey -d 'The API key; visible to every user of this machine, so better put it into the configuration file' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand run" -l pidfile -d 'The file for the process id' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand run" -l role -d 'What the host is there for, Service:role; several times or separated by commas' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand run" -l diagnostic -d 'Post what the agent itself takes, too' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand run" -s v -l verbose -d 'Log more' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand run" -l private-autoshutdown -d 'End when the program\'s file is replaced or deleted' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand run" -l child -d 'Run below `supervise`, which has the pid file' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand run" -s h -l help -d 'Print help'
complete -c wasaba -n "__fish_wasaba_using_subcommand supervise" -l conf -d 'The configuration file [default: /etc/mackerel-agent/mackerel-agent.conf]' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand supervise" -l root -d 'The folder of the agent\'s own files' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand supervise" -l apibase -d 'Where Mackerel\'s API is' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand supervise" -l apikey -d 'The API key; visible to every user of this machine, so better put it into the configuration file' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand supervise" -l pidfile -d 'The file for the process id' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand supervise" -l role -d 'What the host is there for, Service:role; several times or separated by commas' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand supervise" -l diagnostic -d 'Post what the agent itself takes, too' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand supervise" -s v -l verbose -d 'Log more' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand supervise" -l private-autoshutdown -d 'End when the program\'s file is replaced or deleted' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand supervise" -l child -d 'Run below `supervise`, which has the pid file' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand supervise" -s h -l help -d 'Print help'
complete -c wasaba -n "__fish_wasaba_using_subcommand container" -l conf -d 'The configuration file [default: /etc/mackerel-agent/mackerel-agent.conf]' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand container" -l root -d 'The folder of the agent\'s own files' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand container" -l apibase -d 'Where Mackerel\'s API is' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand container" -l apikey -d 'The API key; visible to every user of this machine, so better put it into the configuration file' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand container" -l pidfile -d 'The file for the process id' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand container" -l role -d 'What the host is there for, Service:role; several times or separated by commas' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand container" -l diagnostic -d 'Post what the agent itself takes, too' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand container" -s v -l verbose -d 'Log more' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand container" -l private-autoshutdown -d 'End when the program\'s file is replaced or deleted' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand container" -l child -d 'Run below `supervise`, which has the pid file' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand container" -s h -l help -d 'Print help'
complete -c wasaba -n "__fish_wasaba_using_subcommand health" -l conf -d 'The configuration file [default: /etc/mackerel-agent/mackerel-agent.conf]' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand health" -l root -d 'The folder of the agent\'s own files' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand health" -l apibase -d 'Where Mackerel\'s API is' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand health" -l apikey -d 'The API key; visible to every user of this machine, so better put it into the configuration file' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand health" -l pidfile -d 'The file for the process id' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand health" -l role -d 'What the host is there for, Service:role; several times or separated by commas' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand health" -l diagnostic -d 'Post what the agent itself takes, too' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand health" -s v -l verbose -d 'Log more' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand health" -l private-autoshutdown -d 'End when the program\'s file is replaced or deleted' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand health" -l child -d 'Run below `supervise`, which has the pid file' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand health" -s h -l help -d 'Print help'
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and not __fish_seen_subcommand_from run inspect compile list time new test compiler" -s h -l help -d 'Print help'
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and not __fish_seen_subcommand_from run inspect compile list time new test compiler" -f -a "run" -d 'Collect once and print `name<TAB>value<TAB>epoch` lines, like the official plugins'
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and not __fish_seen_subcommand_from run inspect compile list time new test compiler" -f -a "inspect" -d 'Show what a plugin is, its settings, what it wishes for and what it would be granted'
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and not __fish_seen_subcommand_from run inspect compile list time new test compiler" -f -a "compile" -d 'Compile plugins ahead of time into the agent\'s root, for images and packages'
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and not __fish_seen_subcommand_from run inspect compile list time new test compiler" -f -a "list" -d 'Show how the plugins of the running agent are doing: calls, failures, time, memory, refusals'
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and not __fish_seen_subcommand_from run inspect compile list time new test compiler" -f -a "time" -d 'Measure what one call of a plugin costs here: call it many times and print the median'
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and not __fish_seen_subcommand_from run inspect compile list time new test compiler" -f -a "new" -d 'Make a folder with a new plugin in Rust that builds and passes its tests'
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and not __fish_seen_subcommand_from run inspect compile list time new test compiler" -f -a "test" -d 'Run a plugin\'s test cases, with canned answers in place of the network'
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and not __fish_seen_subcommand_from run inspect compile list time new test compiler" -f -a "compiler" -d 'Compile the component on standard input to standard output (the agent\'s own child process)'
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from run" -l conf -d 'The configuration file [default: /etc/mackerel-agent/mackerel-agent.conf]' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from run" -l root -d 'The folder of the agent\'s own files' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from run" -l apibase -d 'Where Mackerel\'s API is' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from run" -l apikey -d 'The API key; visible to every user of this machine, so better put it into the configuration file' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from run" -l pidfile -d 'The file for the process id' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from run" -l role -d 'What the host is there for, Service:role; several times or separated by commas' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from run" -l diagnostic -d 'Post what the agent itself takes, too' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from run" -s v -l verbose -d 'Log more' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from run" -l private-autoshutdown -d 'End when the program\'s file is replaced or deleted' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from run" -l child -d 'Run below `supervise`, which has the pid file' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from run" -l explain -d 'Say on standard error what it was granted, wished for, was refused and used'
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from run" -s h -l help -d 'Print help'
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from inspect" -l conf -d 'The configuration file [default: /etc/mackerel-agent/mackerel-agent.conf]' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from inspect" -l root -d 'The folder of the agent\'s own files' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from inspect" -l apibase -d 'Where Mackerel\'s API is' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from inspect" -l apikey -d 'The API key; visible to every user of this machine, so better put it into the configuration file' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from inspect" -l pidfile -d 'The file for the process id' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from inspect" -l role -d 'What the host is there for, Service:role; several times or separated by commas' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from inspect" -l diagnostic -d 'Post what the agent itself takes, too' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from inspect" -s v -l verbose -d 'Log more' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from inspect" -l private-autoshutdown -d 'End when the program\'s file is replaced or deleted' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from inspect" -l child -d 'Run below `supervise`, which has the pid file' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from inspect" -s h -l help -d 'Print help'
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from compile" -l conf -d 'The configuration file [default: /etc/mackerel-agent/mackerel-agent.conf]' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from compile" -l root -d 'The folder of the agent\'s own files' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from compile" -l apibase -d 'Where Mackerel\'s API is' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from compile" -l apikey -d 'The API key; visible to every user of this machine, so better put it into the configuration file' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from compile" -l pidfile -d 'The file for the process id' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from compile" -l role -d 'What the host is there for, Service:role; several times or separated by commas' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from compile" -l diagnostic -d 'Post what the agent itself takes, too' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from compile" -s v -l verbose -d 'Log more' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from compile" -l private-autoshutdown -d 'End when the program\'s file is replaced or deleted' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from compile" -l child -d 'Run below `supervise`, which has the pid file' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from compile" -l engine -d 'What shall run them: pulley or native' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from compile" -s h -l help -d 'Print help'
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from list" -l conf -d 'The configuration file [default: /etc/mackerel-agent/mackerel-agent.conf]' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from list" -l root -d 'The folder of the agent\'s own files' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from list" -l apibase -d 'Where Mackerel\'s API is' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from list" -l apikey -d 'The API key; visible to every user of this machine, so better put it into the configuration file' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from list" -l pidfile -d 'The file for the process id' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from list" -l role -d 'What the host is there for, Service:role; several times or separated by commas' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from list" -l diagnostic -d 'Post what the agent itself takes, too' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from list" -s v -l verbose -d 'Log more' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from list" -l private-autoshutdown -d 'End when the program\'s file is replaced or deleted' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from list" -l child -d 'Run below `supervise`, which has the pid file' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from list" -l json -d 'Print JSON'
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from time" -l conf -d 'The configuration file [default: /etc/mackerel-agent/mackerel-agent.conf]' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from time" -l root -d 'The folder of the agent\'s own files' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from time" -l apibase -d 'Where Mackerel\'s API is' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from time" -l apikey -d 'The API key; visible to every user of this machine, so better put it into the configuration file' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from time" -l pidfile -d 'The file for the process id' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from time" -l role -d 'What the host is there for, Service:role; several times or separated by commas' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from time" -l diagnostic -d 'Post what the agent itself takes, too' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from time" -s v -l verbose -d 'Log more' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from time" -l private-autoshutdown -d 'End when the program\'s file is replaced or deleted' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from time" -l child -d 'Run below `supervise`, which has the pid file' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from time" -l engine -d 'What runs it: pulley or native' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from time" -l calls -d 'How many times it is called' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from time" -s h -l help -d 'Print help'
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from new" -s h -l help -d 'Print help'
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from test" -l conf -d 'The configuration file [default: /etc/mackerel-agent/mackerel-agent.conf]' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from test" -l root -d 'The folder of the agent\'s own files' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from test" -l apibase -d 'Where Mackerel\'s API is' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from test" -l apikey -d 'The API key; visible to every user of this machine, so better put it into the configuration file' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from test" -l pidfile -d 'The file for the process id' -r -F
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from test" -l role -d 'What the host is there for, Service:role; several times or separated by commas' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from test" -l diagnostic -d 'Post what the agent itself takes, too' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from test" -s v -l verbose -d 'Log more' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from test" -l private-autoshutdown -d 'End when the program\'s file is replaced or deleted' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from test" -l child -d 'Run below `supervise`, which has the pid file' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from test" -s h -l help -d 'Print help'
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from compiler" -l engine -d 'What shall run it' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from compiler" -l cpu-seconds -d 'CPU time that it may take' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from compiler" -l memory-bytes -d 'Address space that it may take' -r
complete -c wasaba -n "__fish_wasaba_using_subcommand plugin; and __fish_seen_subcommand_from compiler" -s h -l help -d 'Print help'
complete -c wasaba -n "__fish_wasaba_using_subcommand completion" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wasaba -n "__fish_wasaba_using_subcommand version" -s h -l help -d 'Print help'
