"""Compare policies on the real table that ships with the package, with paired luck and 95 % intervals."""

from bandit_router import PolicyConfig, load_scenario, run_scenario, with_overrides

scenario, folder = load_scenario("models/llm")
scenario = with_overrides(
    scenario,
    seeds=5,
    horizon_requests=500,
    policies=(
        PolicyConfig(name="LinUCB", label="LinUCB, alpha 0.3", settings={"alpha": 0.3}),
        PolicyConfig(name="LinUCB", label="LinUCB, alpha 0.1", settings={"alpha": 0.1}),
        PolicyConfig(name="BetaThompson"),
        PolicyConfig(name="UniformRandom"),
    ),
)
document = run_scenario(scenario, folder).document

references = document["references"]
print(f"{document['horizon']} requests, {document['seeds']} seeds, utility per request")
print(f"{'oracle per request':20}{references['oracle']['utility_mean']:.3f}")
print(f"{'best fixed arm':20}{references['best_fixed']['utility_mean']:.3f}  {references['best_fixed']['arm']}")
for row in document["policies"]:
    low, high = row["utility_mean"]["ci95"]
    print(f"{row['policy']:20}{row['utility_mean']['mean']:.3f}  95 % interval {low:.3f} to {high:.3f}")
