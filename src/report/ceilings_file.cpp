// SPDX-License-Identifier: Apache-2.0
#include "report/ceilings_file.h"

#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "core/error.h"
#include "core/random.h"
#include "measure/process_usage.h"
#include "model/files.h"
#include "report/environment.h"
#include "report/format.h"

namespace triphase {
namespace {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

constexpr int kSchema = 3;  // 2: the factors are of terms by where the plan's memory lies; 3: levels by true sizes

std::string environment_variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// What a file says at a path, checked: the errors name both.
class Reader {
 public:
  Reader(const Json& json, std::string where) : json_(json), where_(std::move(where)) {}

  Reader at(const char* key) const {
    if (!json_.is_object() || !json_.contains(key)) fail(std::string("key \"") + key + "\"", "none");
    return {json_[key], where_ + "/" + key};
  }
  bool has(const char* key) const { return json_.is_object() && json_.contains(key); }
  std::string text() const {
    if (!json_.is_string()) fail("a string", json_.type_name());
    return json_.get<std::string>();
  }
  double number() const {
    if (!json_.is_number() || !std::isfinite(json_.get<double>()) || json_.get<double>() < 0) {
      fail("a number from 0", json_.dump().substr(0, 40));
    }
    return json_.get<double>();
  }
  double positive() const {
    if (number() <= 0) fail("a number above 0", json_.dump());
    return number();
  }
  int64_t count() const {
    if (!json_.is_number_integer() || json_.get<int64_t>() < 0)
      fail("a whole number from 0", json_.dump().substr(0, 40));
    return json_.get<int64_t>();
  }
  std::vector<Reader> items() const {
    if (!json_.is_array()) fail("a list", json_.type_name());
    std::vector<Reader> result;
    for (size_t i = 0; i < json_.size(); ++i) result.emplace_back(json_[i], where_ + "/" + std::to_string(i));
    return result;
  }
  std::vector<std::pair<std::string, Reader>> members() const {
    if (!json_.is_object()) fail("an object", json_.type_name());
    std::vector<std::pair<std::string, Reader>> result;
    for (const auto& [key, value] : json_.items()) result.emplace_back(key, Reader(value, where_ + "/" + key));
    return result;
  }
  [[noreturn]] void fail(const std::string& expected, const std::string& found) const {
    throw InputError(where_, expected + " (triphase_ceilings --remeasure writes the file anew)", found);
  }

 private:
  const Json& json_;
  std::string where_;
};

Ceiling ceiling(const Reader& json) {
  Ceiling result;
  result.kernel = json.at("kernel").text();
  if (json.has("dtype")) result.dtype = json.at("dtype").text();
  if (json.has("level")) result.level = json.at("level").text();
  if (json.has("shape")) result.shape = json.at("shape").text();
  result.threads = static_cast<int>(json.at("threads").count());
  result.working_set_bytes = json.at("working_set_bytes").count();
  result.latency = json.at("unit").text() == "s";
  result.value = json.at("value").positive();
  result.best = json.at("best").positive();
  result.passes = static_cast<size_t>(json.at("passes").count());
  if (json.has("ci95_low")) result.ci95 = Interval{json.at("ci95_low").number(), json.at("ci95_high").number()};
  return result;
}

Remeasured remeasured(const Reader& json) {
  Remeasured result{json.at("at").text(), json.at("row").text(), json.at("of_its_ceiling").positive(), {}};
  for (const Reader& item : json.at("risen").items()) {
    result.risen.push_back({item.at("kernel").text(), item.at("from").positive(), item.at("to").positive()});
  }
  return result;
}

OrderedJson to_json(const Remeasured& remeasured) {
  OrderedJson risen = OrderedJson::array();
  for (const auto& [kernel, from, to] : remeasured.risen) {
    risen.push_back({{"kernel", kernel}, {"from", from}, {"to", to}});
  }
  return {
      {"at", remeasured.at}, {"row", remeasured.row}, {"of_its_ceiling", remeasured.of_its_ceiling}, {"risen", risen}};
}

std::string unit(const Ceiling& ceiling) {
  if (ceiling.latency) return "s";
  return ceiling.dtype.empty() && ceiling.kernel != "gauge_arithmetic" ? "B/s" : "FLOP/s";
}

}  // namespace

std::string machine_fingerprint(Backend& backend) {
  OrderedJson about;
  if (backend.on_host()) about["environment"] = environment()["fingerprint"];
  about["schema"] = kSchema;
  for (const auto& [name, version] : backend.versions()) about[name] = version;
  return fingerprint_of(about);
}

std::string ceilings_path(const std::string& fingerprint, const std::string& backend, int threads) {
  std::string folder = environment_variable("TRIPHASE_CACHE");
  if (folder.empty() && !environment_variable("XDG_CACHE_HOME").empty()) {
    folder = environment_variable("XDG_CACHE_HOME") + "/triphase";
  }
  if (folder.empty()) folder = environment_variable("HOME") + "/.cache/triphase";
  return folder + "/ceilings-" + fingerprint + "-" + backend + "-" + std::to_string(threads) + "threads.json";
}

OrderedJson to_json(const KnownMachine& known) {
  OrderedJson rates = OrderedJson::array();
  for (const Ceiling& c : known.ceilings) {
    OrderedJson item = {{"kernel", c.kernel}};
    if (!c.dtype.empty()) item["dtype"] = c.dtype;
    if (!c.level.empty()) item["level"] = c.level;
    if (!c.shape.empty()) item["shape"] = c.shape;
    item["threads"] = c.threads;
    item["working_set_bytes"] = c.working_set_bytes;
    item["unit"] = unit(c);
    item["value"] = c.value;
    if (c.ci95) {
      item["ci95_low"] = c.ci95->low;
      item["ci95_high"] = c.ci95->high;
    }
    item["best"] = c.best;
    item["passes"] = c.passes;
    rates.push_back(std::move(item));
  }
  OrderedJson json = {{"schema", kSchema},
                      {"backend", known.backend},
                      {"threads", known.threads},
                      {"fingerprint", known.fingerprint},
                      {"measured_at", known.measured_at}};
  if (known.switches_per_s) json["involuntary_switches_per_s"] = *known.switches_per_s;
  if (known.remeasured) json["remeasured"] = to_json(*known.remeasured);
  json["rates"] = rates;
  if (known.fit) {
    json["calibration"] = {{"cases", known.fit->cases},
                           {"rows", known.fit->rows},
                           {"median_error", known.fit->median_error},
                           {"p90_error", known.fit->p90_error},
                           {"factors", known.factors}};
  }
  return json;
}

KnownMachine known_machine(const Json& json, const std::string& file) {
  const Reader reader(json, file);
  if (reader.at("schema").count() != kSchema) {
    reader.at("schema").fail("schema " + std::to_string(kSchema), std::to_string(reader.at("schema").count()));
  }
  KnownMachine known;
  known.backend = reader.at("backend").text();
  known.threads = static_cast<int>(reader.at("threads").count());
  known.fingerprint = reader.at("fingerprint").text();
  known.measured_at = reader.at("measured_at").text();
  if (const char* key = "involuntary_switches_per_s"; reader.has(key)) known.switches_per_s = reader.at(key).number();
  for (const Reader& item : reader.at("rates").items()) known.ceilings.push_back(ceiling(item));
  if (reader.has("remeasured")) known.remeasured = remeasured(reader.at("remeasured"));
  if (!reader.has("calibration")) return known;
  const Reader calibration = reader.at("calibration");
  known.fit = CalibrationFit{static_cast<size_t>(calibration.at("cases").count()),
                             static_cast<size_t>(calibration.at("rows").count()),
                             calibration.at("median_error").number(), calibration.at("p90_error").number()};
  for (const auto& [family, factors] : calibration.at("factors").members()) {
    for (const Reader& factor : factors.items()) known.factors[family].push_back(factor.number());
  }
  return known;
}

std::optional<KnownMachine> read_ceilings(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return {};
  return known_machine(read_json(path), path);
}

std::vector<std::string> doubts(const KnownMachine& known) {
  std::vector<std::string> found;
  if (known.switches_per_s.value_or(0) > kBusySwitchesPerS) {
    found.push_back("other programs took a processor away " + fixed(*known.switches_per_s, 0) + " times a second");
  }
  for (const Ceiling& all : known.ceilings) {
    if (all.kernel != "gemm" || all.threads != known.threads) continue;
    for (const Ceiling& one : known.ceilings) {
      const bool slower = one.kernel == all.kernel && one.dtype == all.dtype && one.threads == 1 && all.threads > 1 &&
                          all.value < one.value;
      if (!slower) continue;
      found.push_back("products in " + all.dtype + " were slower on " + std::to_string(all.threads) +
                      " threads than on one");
    }
  }
  return found;
}

std::string ceilings_table(const KnownMachine& known) {
  Table table({"kernel", "of", "threads", "working set", "ceiling", "95 % interval", "best", "shape"});
  const auto value = [](const Ceiling& c, double number) {
    return c.latency ? duration(number) : si(number) + unit(c);
  };
  std::string last;
  for (const Ceiling& c : known.ceilings) {
    const std::string of = c.dtype.empty() ? c.level : c.dtype;
    if (!last.empty() && last != of + std::to_string(c.threads)) table.rule();
    last = of + std::to_string(c.threads);
    table.add({c.kernel, of, std::to_string(c.threads), si(static_cast<double>(c.working_set_bytes)) + "B",
               value(c, c.value), c.ci95 ? value(c, c.ci95->low) + " to " + value(c, c.ci95->high) : "",
               value(c, c.best), c.shape});
  }
  std::string text = table.text();
  if (known.fit) {
    text += "\nprediction: fitted to " + std::to_string(known.fit->rows) + " layers and phases of " +
            std::to_string(known.fit->cases) + " calibration cases; |predicted / measured - 1| there: median " +
            percent(known.fit->median_error) + ", 90 % within " + percent(known.fit->p90_error) + "\n";
  }
  if (known.remeasured) {
    text += "\nmeasured again at " + known.remeasured->at + ", as " + known.remeasured->row + " ran at " +
            fixed(100 * known.remeasured->of_its_ceiling, 0) + " % of its ceiling; risen:";
    for (const auto& [kernel, from, to] : known.remeasured->risen) {
      text += " " + kernel + " by " + percent(std::abs(to / from - 1)) + ",";
    }
    text.back() = '\n';
  }
  for (const std::string& doubt : doubts(known)) {
    text += "\nNot to be trusted: while these were measured " + doubt + "; --remeasure when the machine is idle\n";
  }
  return text;
}

}  // namespace triphase
