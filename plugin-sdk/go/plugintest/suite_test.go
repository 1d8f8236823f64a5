package plugintest_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	nethttp "net/http"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"wasaba.dev/plugin"
	"wasaba.dev/plugin/call"
	"wasaba.dev/plugin/checks"
	"wasaba.dev/plugin/crypto"
	"wasaba.dev/plugin/files"
	"wasaba.dev/plugin/http"
	"wasaba.dev/plugin/internal/bridge"
	"wasaba.dev/plugin/kv"
	"wasaba.dev/plugin/log"
	"wasaba.dev/plugin/log/handler"
	"wasaba.dev/plugin/metadata"
	"wasaba.dev/plugin/metrics"
	"wasaba.dev/plugin/plugintest"
	"wasaba.dev/plugin/setting"
	"wasaba.dev/plugin/tcp"
	"wasaba.dev/plugin/transport"
)

var (
	url      = setting.URL("url").Default("http://localhost/a")
	port     = setting.Port("port").Default("7")
	wait     = setting.Duration("wait").Default("500ms")
	optional = setting.Text("optional")
	servers  = setting.Endpoint("servers").Repeatable()
	token    = setting.Secret("token")
)

// What the plugin does is chosen by each test.
var (
	collect func(plugin.Settings) (metrics.Readings, error)
	check   func(plugin.Settings) ([]checks.Report, error)
	gather  func(plugin.Settings) (metadata.Results, error)
)

func init() {
	plugin.Export(plugin.Plugin{
		Name: "suite", Settings: []plugin.Setting{url, port, wait, optional, servers, token},
	}, metrics.Collector{
		Graphs: []metrics.Graph{
			metrics.NewGraph("q.jobs", "Jobs", metrics.Integer, metrics.Gauge("waiting", ""), metrics.PerSecond("r", "").Scale(8)),
			metrics.NewGraph("q.#.*", "Each", metrics.Float, metrics.Gauge("*", "")),
			metrics.NewGraph("custom.wrong", "Wrong", metrics.Float, metrics.Gauge("a", "")),
		},
		Collect: func(settings plugin.Settings) (metrics.Readings, error) { return collect(settings) },
	},
		checks.Checker{Check: func(settings plugin.Settings) ([]checks.Report, error) { return check(settings) }},
		metadata.Gatherer{Gather: func(settings plugin.Settings) (metadata.Results, error) { return gather(settings) }})
}

// run collects once with what read does.
func run(host *plugintest.Host, read func(plugin.Settings, *metrics.Readings) error) (metrics.Readings, error) {
	collect = func(settings plugin.Settings) (readings metrics.Readings, err error) {
		err = read(settings, &readings)
		return readings, err
	}
	return host.Collect()
}

func equal(t *testing.T, got, expected any) {
	t.Helper()
	if !reflect.DeepEqual(got, expected) {
		t.Errorf("got %#v, not %#v", got, expected)
	}
}

// refused expects an error of this kind that says all of this.
func refused(t *testing.T, err error, kind plugin.Kind, says ...string) {
	t.Helper()
	var own *plugin.Error
	if !errors.As(err, &own) || own.Kind != kind {
		t.Fatalf("got the error %v, not one of kind %q", err, kind)
	}
	for _, text := range says {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q does not say %q", err, text)
		}
	}
}

func TestWholeNumbersStayWholeAndOthersAreFloats(t *testing.T) {
	equal(t, metrics.NewSample("a", uint64(math.MaxUint64)).Value, metrics.Value{Unsigned: math.MaxUint64, IsUnsigned: true})
	equal(t, metrics.NewSample("a", 3).Value.IsUnsigned, true)
	equal(t, metrics.NewSample("a", -3).Value, metrics.Value{Float: -3})
	equal(t, metrics.NewSample("a", float32(0.5)).Value, metrics.Value{Float: 0.5})
	sample := metrics.NewSample("a", 1).Label("k", "v")
	equal(t, len(sample.Label("l", "w").Labels)+len(sample.Labels), 3)
}

func TestASampleThatNoGraphHasIsAMistakeWithNameAndLine(t *testing.T) {
	for name, fits := range map[string]bool{
		"q.jobs.waiting": true, "q.a.b.c": true, "q.jobs": false, "q.jobs.vating": false, "q.a.b.c.d": false, "q..b.c": false, "other": false,
	} {
		_, err := run(plugintest.New(t), func(_ plugin.Settings, readings *metrics.Readings) error {
			readings.Add(metrics.NewSample(name, 1))
			return nil
		})
		if !fits {
			refused(t, err, plugin.Failed, "`"+name+"`", "suite_test.go:")
		} else if err != nil {
			t.Error(name, err)
		}
	}
}

func TestNaNIsAMistakeWithNameAndLine(t *testing.T) {
	_, err := run(plugintest.New(t), func(_ plugin.Settings, readings *metrics.Readings) error {
		readings.Add(metrics.NewSample("q.jobs.waiting", math.NaN()))
		return nil
	})
	refused(t, err, plugin.Failed, "q.jobs.waiting", "NaN", "suite_test.go:")
}

func TestASampleThatIsReturnedTwiceIsAMistakeWithNameAndLine(t *testing.T) {
	sample := metrics.NewSample("q.jobs.waiting", 1)
	for _, again := range []metrics.Sample{metrics.NewSample("q.jobs.waiting", 2), sample} {
		_, err := run(plugintest.New(t), func(_ plugin.Settings, readings *metrics.Readings) error {
			readings.Add(sample)
			readings.Add(again)
			return nil
		})
		refused(t, err, plugin.Failed, "suite_test.go:", "the sample `q.jobs.waiting` is returned twice")
	}
	_, err := run(plugintest.New(t), func(_ plugin.Settings, readings *metrics.Readings) error {
		readings.Samples = []metrics.Sample{sample, sample}
		return nil
	})
	refused(t, err, plugin.Failed, "`q.jobs.waiting` is returned twice")
	_, err = run(plugintest.New(t), func(_ plugin.Settings, readings *metrics.Readings) error {
		readings.Add(sample)
		*readings = metrics.Readings{}
		now := time.Unix(1_000_000_000, 0)
		readings.Add(sample, sample.OfHost("db2"), sample.At(now), sample.At(now.Add(time.Minute)), metrics.NewSample("q.jobs.r", 1))
		return nil
	})
	equal(t, err, nil)
}

func TestNamesWithCustomSayThatTheAgentAddsIt(t *testing.T) {
	for name, says := range map[string]string{
		"custom.q.jobs.waiting": "names of samples are written without `custom.`",
		"wrong.a":               "but `custom.wrong` is: names of graphs are written without `custom.`",
	} {
		_, err := run(plugintest.New(t), func(_ plugin.Settings, readings *metrics.Readings) error {
			readings.Add(metrics.NewSample(name, 1))
			return nil
		})
		refused(t, err, plugin.Failed, "suite_test.go:", "`"+name+"`", says)
	}
}

func TestAUnitThatIsNotOneIsAMistakeThatListsThem(t *testing.T) {
	defer func() {
		err, _ := recover().(error)
		refused(t, err, plugin.Failed, "suite_test.go:", "`q.jobs`", `"int"`, "valid: float, integer, percentage", "bits-per-second, iops")
	}()
	metrics.NewGraph("q.jobs", "Jobs", "int")
}

func TestAPanicIsAFailureWithTheLineThatPanicked(t *testing.T) {
	_, err := run(plugintest.New(t), func(plugin.Settings, *metrics.Readings) error {
		var none []int
		return fmt.Errorf("%d", none[len(os.Args)])
	})
	refused(t, err, plugin.Failed, "suite_test.go:", "index out of range")
}

func TestSettingsHaveTheirDefaultsAndTypes(t *testing.T) {
	host := plugintest.New(t)
	host.Set("servers", "db:5432", "[::1]:1")
	settings := host.Settings()
	equal(t, settings.Text(url), "http://localhost/a")
	equal(t, settings.Port(port), uint16(7))
	equal(t, settings.Duration(wait), 500*time.Millisecond)
	equal(t, settings.Endpoints(servers), []plugin.Endpoint{{Host: "db", Port: 5432}, {Host: "[::1]", Port: 1}})
	equal(t, settings.Secret(token), (*plugin.Secret)(nil))
	if _, ok := settings.Get(optional); ok {
		t.Error("it is not set")
	}
}

func TestAnUndeclaredSettingIsAMistakeAndAMissingOneTheOperators(t *testing.T) {
	_, err := run(plugintest.New(t), func(settings plugin.Settings, _ *metrics.Readings) error {
		settings.Text(setting.URL("uri"))
		return nil
	})
	refused(t, err, plugin.Failed, "`uri`", "url, port", "suite_test.go:")
	_, err = run(plugintest.New(t), func(settings plugin.Settings, _ *metrics.Readings) error {
		settings.Text(optional)
		return nil
	})
	refused(t, err, plugin.Misconfigured, "`optional` is not set")
	_, err = run(plugintest.New(t), func(settings plugin.Settings, _ *metrics.Readings) error {
		settings.OneOf(url, "a", "b")
		return nil
	})
	refused(t, err, plugin.Misconfigured, "valid: a, b")
}

func TestASecretShowsNothing(t *testing.T) {
	host := plugintest.New(t)
	host.Set("token", "hunter2")
	secret := host.Settings().Secret(token)
	for _, shown := range []string{fmt.Sprint(secret), fmt.Sprintf("%+v %#v %q", secret, secret, secret)} {
		if strings.Contains(shown, "hunter2") {
			t.Error(shown)
		}
	}
	revealed, err := secret.Reveal()
	equal(t, []any{revealed, err, secret.Length()}, []any{"hunter2", nil, 7})
}

func TestASecretThatIsReadAsTextAndTextThatIsReadAsASecretAreMistakes(t *testing.T) {
	host := plugintest.New(t)
	host.Set("token", "hunter2")
	for _, read := range []func(plugin.Settings){
		func(settings plugin.Settings) { settings.Text(token) },
		func(settings plugin.Settings) { settings.Get(token) },
		func(settings plugin.Settings) { settings.All(token) },
	} {
		_, err := run(host, func(settings plugin.Settings, _ *metrics.Readings) error {
			read(settings)
			return nil
		})
		refused(t, err, plugin.Failed, "suite_test.go:", "`token` is a secret", "use settings.Secret")
	}
	_, err := run(host, func(settings plugin.Settings, _ *metrics.Readings) error {
		settings.Secret(url)
		return nil
	})
	refused(t, err, plugin.Failed, "suite_test.go:", "`url` is not a secret", "use settings.Text")
}

func TestASecretThatIsPrintedIntoAHeaderIsAMistake(t *testing.T) {
	host := plugintest.New(t)
	host.Set("token", "hunter2")
	host.HTTP("http://a/")
	_, err := run(host, func(settings plugin.Settings, _ *metrics.Readings) error {
		_, err := http.Get("http://a/").Header("authorization", fmt.Sprint("Bearer ", settings.Secret(token))).OK()
		return err
	})
	refused(t, err, plugin.Failed, "suite_test.go:", "`authorization`", "HeaderSecret")
}

func TestAStatusThatIsNot2xxIsAnErrorThatNamesThePage(t *testing.T) {
	for status, kind := range map[int]plugin.Kind{404: plugin.Failed, 500: plugin.Failed, 401: plugin.Unauthorized, 403: plugin.Unauthorized} {
		host := plugintest.New(t)
		host.HTTP("http://a:81/x?key=private").Status(status)
		err := http.Get("http://a:81/x?key=private").JSON(&struct{}{})
		refused(t, err, kind, "http://a:81/x ", fmt.Sprintf("status %d", status))
		if strings.Contains(err.Error(), "private") {
			t.Error(err)
		}
	}
	host := plugintest.New(t)
	host.HTTP("http://a/").Status(503).Header("Retry-After", "90")
	_, err := http.Get("http://a/").OK()
	var busy *plugin.Error
	equal(t, []any{errors.As(err, &busy), busy.RetryAfter}, []any{true, 90 * time.Second})
}

func TestAnErrorSaysWhomItCouldNotReach(t *testing.T) {
	host := plugintest.New(t)
	host.HTTP("http://a:81/x").Unreachable("connection refused")
	host.TCP("db:5432").Unreachable("connection refused")
	_, err := http.Get("http://a:81/x").Send()
	refused(t, err, plugin.Unreachable, "http://a:81/x: connection refused")
	_, err = tcp.Connect("db", 5432)
	refused(t, err, plugin.Unreachable, "db:5432: connection refused")
}

func TestARedirectIsFollowedAndWhatWasMeantForOneServerIsNotSentToAnother(t *testing.T) {
	host := plugintest.New(t)
	host.Set("token", "hunter2")
	secret := host.Settings().Secret(token)
	for _, step := range [][2]string{{"http://a/d/x?q=/", "y"}, {"http://a/d/y", "/z"}, {"http://a/z", "//b/"}} {
		host.HTTP(step[0]).Status(302).Header("Location", step[1]).Expect("x-token", "hunter2").Expect("cookie", "c")
	}
	host.HTTP("http://b/").Body("there")
	request := http.Get("http://a/d/x?q=/").HeaderSecret("x-token", "", secret).Header("Cookie", "c").Follow(3)
	text, err := request.Text()
	equal(t, []any{text, err}, []any{"there", nil})
	_, err = request.Follow(2).Send()
	refused(t, err, plugin.Failed, "more than 2 redirects")
}

func TestSecretsAreSentInEachKindOfHeader(t *testing.T) {
	host := plugintest.New(t)
	host.Set("token", "x-line: 1")
	secret := host.Settings().Secret(token)
	host.HTTP("http://a/").Expect("x-token", "token x-line: 1").Expect("authorization", "Basic bWU6eC1saW5lOiAx").Expect("x-line", "1")
	request := http.Get("http://a/").HeaderSecret("x-token", "token ", secret).BasicAuth("me", secret).HeaderLines(secret)
	if has, err := request.HasHeader("X-Line"); err != nil || !has {
		t.Error(has, err)
	}
	if _, err := request.HeaderSecret("y", "", nil).OK(); err != nil {
		t.Error(err)
	}
}

func TestNetHTTPAsksThroughTheAgent(t *testing.T) {
	host := plugintest.New(t)
	host.HTTP("http://a/x").Method("POST").Expect("accept", "*/*").Status(201).Header("X-Y", "z").Body("made")
	request, _ := nethttp.NewRequest("POST", "http://a/x", strings.NewReader("body"))
	request.Header.Set("Accept", "*/*")
	response, err := transport.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	equal(t, []any{string(body), err, response.StatusCode, response.Header.Get("x-y")}, []any{"made", nil, 201, "z"})
	host.HTTP("http://down/").Unreachable("refused")
	_, err = transport.Client().Get("http://down/")
	refused(t, err, plugin.Unreachable, "refused")
}

func TestAnErrorOfPackageNetNamesWhatToUseInItsPlace(t *testing.T) {
	dial := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("refused")}
	for _, err := range []error{dial, fmt.Errorf("db1: %w", dial), plugin.Unreachable.Errorf("db1: %w", dial)} {
		if said := bridge.ErrorParts(err).Message; !strings.Contains(said, "transport.Client()") {
			t.Error(said)
		}
	}
	ours := &net.OpError{Op: "dial", Net: "tcp", Err: plugin.Unreachable.Errorf("refused")}
	equal(t, bridge.ErrorParts(ours).Message, "dial tcp: refused")
}

func TestAConnectionIsANetConn(t *testing.T) {
	host := plugintest.New(t)
	host.TCP("db:1").Expect("PING").Send("PONG")
	connection, err := tcp.DialContext(context.Background(), "tcp", "db:1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(connection, "PING"); err != nil {
		t.Error(err)
	}
	answer, err := io.ReadAll(connection)
	equal(t, []any{string(answer), err, connection.RemoteAddr().String()}, []any{"PONG", nil, "db:1"})
	connection.SetDeadline(time.Unix(1, 0))
	if _, err := connection.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

func TestWhatACallSetsIsKeptIfItSucceeds(t *testing.T) {
	host := plugintest.New(t)
	set := func(value string, result error) {
		run(host, func(plugin.Settings, *metrics.Readings) error {
			if err := kv.Set("k", []byte(value)); err != nil {
				return err
			}
			return result
		})
	}
	set("a", nil)
	set("b", errors.New("no"))
	equal(t, string(host.Kept()["k"]), "a")
}

func TestThereIsNoGrowthAtFirstAndWhenACounterWasReset(t *testing.T) {
	host := plugintest.New(t)
	var grown [][]uint64
	for _, now := range [][]uint64{{5, 7}, {6, 7}, {6, 6}, {7, 8, 9}} {
		run(host, func(plugin.Settings, *metrics.Readings) error {
			growth, err := kv.Growth("g", now...)
			grown = append(grown, growth)
			return err
		})
	}
	equal(t, grown, [][]uint64{nil, {1, 0}, nil, nil})
}

func TestATargetThatIsDownIsZeroAndSaidOnce(t *testing.T) {
	host := plugintest.New(t)
	var values []float64
	for _, err := range []error{nil, plugin.Unreachable.Errorf("gone"), plugin.Timeout.Errorf("slow"), nil} {
		readings, _ := run(host, func(_ plugin.Settings, readings *metrics.Readings) (failed error) {
			*readings, failed = metrics.Up("q.jobs.waiting", *readings, err)
			return failed
		})
		values = append(values, readings.Samples[0].Value.Number())
	}
	equal(t, values, []float64{1, 0, 0, 1})
	equal(t, host.Logged(), []string{"warning: the target is down: gone", "info: the target is up again"})
	_, err := run(host, func(_ plugin.Settings, readings *metrics.Readings) (failed error) {
		*readings, failed = metrics.Up("q.jobs.waiting", *readings, plugin.Denied.Errorf("no grant"))
		return failed
	})
	refused(t, err, plugin.Denied)
}

func TestSlogWritesToTheAgentsLog(t *testing.T) {
	host := plugintest.New(t)
	logger := slog.New(handler.New())
	logger.With("a", 1).WithGroup("g").Info("said", "b", "two words")
	logger.Warn("careful")
	logger.Debug("small")
	equal(t, host.Logged(), []string{`info: said a=1 g.b="two words"`, "warning: careful", "debug: small"})
}

func TestAPersistingWarningIsWrittenOnceADay(t *testing.T) {
	host := plugintest.New(t)
	run(host, func(plugin.Settings, *metrics.Readings) error {
		log.WarningDaily("disk", "the disk is %d %% full", 90)
		log.WarningDaily("disk", "the disk is full")
		return nil
	})
	equal(t, host.Logged(), []string{"warning: the disk is 90 % full"})
}

func TestAFileIsReadWholeAndInParts(t *testing.T) {
	host := plugintest.New(t)
	host.File("/f", "abcdef")
	whole, err := files.Read("/f", 6)
	equal(t, []any{string(whole), err}, []any{"abcdef", nil})
	_, err = files.Read("/f", 5)
	refused(t, err, plugin.TooLarge, "/f")
	_, err = files.Open("/g")
	refused(t, err, plugin.Failed, "/g")
	file, _ := files.Open("/f")
	part := make([]byte, 4)
	read, err := file.ReadAt(part, 4)
	equal(t, []any{string(part[:read]), err}, []any{"ef", io.EOF})
}

func TestProofsAreThoseOfTheStandards(t *testing.T) {
	host := plugintest.New(t)
	host.Set("token", "pencil")
	secret := host.Settings().Secret(token)
	// RFC 7677, section 3.
	salt, _ := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	nonce := "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	message := "n=user,r=rOprNGfwEbeRWgbNEkqO,r=" + nonce + ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=" + nonce
	proof, err := crypto.ScramSHA256(secret, salt, 4096, message)
	equal(t, []any{base64.StdEncoding.EncodeToString(proof.ClientProof), base64.StdEncoding.EncodeToString(proof.ServerSignature), err},
		[]any{"dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", nil})
	md5, err := crypto.PostgresMD5(secret, "me", []byte("salt"))
	if err != nil || len(md5) != 35 || !strings.HasPrefix(md5, "md5") {
		t.Error(md5, err)
	}
	_, err = crypto.ScramSHA256(secret, nil, 4096, "")
	refused(t, err, plugin.Invalid)
	_, err = crypto.ScramSHA256(nil, []byte("salt"), 4096, "")
	refused(t, err, plugin.Misconfigured, "suite_test.go:")
}

func TestAnErrorKeepsItsKindWhenItIsWrapped(t *testing.T) {
	inner := plugin.Busy(time.Minute, "later")
	_, err := run(plugintest.New(t), func(plugin.Settings, *metrics.Readings) error { return fmt.Errorf("db1: %w", inner) })
	equal(t, []any{errors.Is(err, plugin.Unreachable), err.Error(), errors.Unwrap(err) == error(inner)}, []any{true, "db1: later", true})
	equal(t, errors.Is(plugin.Failed.Errorf("x: %w", io.EOF), io.EOF), true)
}

func TestChecksAndDocumentsAreReturned(t *testing.T) {
	host := plugintest.New(t)
	check = func(plugin.Settings) ([]checks.Report, error) {
		return []checks.Report{checks.OK("%d there", 3), checks.Critical("gone").Named("else")}, nil
	}
	reports, err := host.Check()
	equal(t, []any{reports[0].Message, reports[1].Name, reports[1].Status, err}, []any{"3 there", "else", checks.StatusCritical, nil})
	gather = func(plugin.Settings) (metadata.Results, error) { return metadata.Of(map[string]int{"a": 1}), nil }
	documents, err := host.Gather()
	equal(t, []any{documents, err}, []any{[][2]string{{"", `{"a":1}`}}, nil})
	gather = func(plugin.Settings) (metadata.Results, error) { return metadata.Of(func() {}), nil }
	_, err = host.Gather()
	refused(t, err, plugin.Failed, "cannot be JSON")
}

func TestASegmentHasNoCharacterThatMackerelRefuses(t *testing.T) {
	equal(t, plugin.Segment("config|get my.db-1/日"), "config_get_my_db-1__")
}

func TestACallKnowsItsMinute(t *testing.T) {
	host := plugintest.New(t)
	host.Minute(time.Unix(1_000_000_050, 0))
	equal(t, call.Minute(), time.Unix(1_000_000_020, 0).UTC())
	equal(t, []bool{call.Has("tcp.is-local"), call.Has("everything")}, []bool{true, false})
}
