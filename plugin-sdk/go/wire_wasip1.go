package plugin

import (
	"strings"

	witTypes "wasaba.dev/plugin/internal/bytecodealliance/wit/types"
	"wasaba.dev/plugin/internal/wire"
	_ "wasaba.dev/plugin/internal/wit/exports/about"
	export "wasaba.dev/plugin/internal/wit/exports/export_wasaba_plugin_about"
	wit "wasaba.dev/plugin/internal/wit/imports/wasaba_plugin_about"
	types "wasaba.dev/plugin/internal/wit/imports/wasaba_plugin_types"
)

func init() { export.Describe = describe }

func describe() wit.Description {
	plugin := Exported()
	description := wit.Description{
		Name: plugin.Name, Version: plugin.Version, Summary: plugin.Summary, Attributes: pairs(plugin.Attributes),
	}
	for _, reach := range plugin.Reaches {
		description.Reach = append(description.Reach, string(reach))
	}
	for _, setting := range plugin.Settings {
		from := setting.declared
		to := wit.Setting{
			Key: from.Key, Kind: from.Kind, Default: witTypes.None[string](), Required: from.Required, Repeatable: from.Repeatable,
			PortOf: witTypes.None[string](), Help: from.Help, Attributes: pairs(from.Attributes),
		}
		if from.Default != nil {
			to.Default = witTypes.Some(*from.Default)
		}
		if from.PortOf != "" {
			to.PortOf = witTypes.Some(from.PortOf)
		}
		description.Settings = append(description.Settings, to)
	}
	return description
}

func pairs(attributes []Attribute) wire.Pairs {
	pairs := make([][2]string, len(attributes))
	for index, attribute := range attributes {
		pairs[index] = [2]string{attribute.Key, attribute.Value}
	}
	return wire.PairsOf(pairs)
}

func secretLength(handle any) int { return int(handle.(*types.Secret).Length()) }

func secretReveal(handle any) (string, error) {
	wire.Enter()
	defer wire.Leave()
	text, err := wire.Value(handle.(*types.Secret).Reveal())
	return strings.Clone(text), err
}
