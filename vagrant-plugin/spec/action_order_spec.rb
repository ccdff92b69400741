# frozen_string_literal: true

# vagrant-libvirt's own builders with our hooks in them, every branch of them expanded as Vagrant would.
RSpec.describe VagrantPlugins::Hybrid::Plugin do
  let(:provider) { VagrantPlugins::ProviderLibvirt::Action }
  let(:ours) { VagrantPlugins::Hybrid::Action }

  # The middleware of an action in the order of their calls.
  # @param answers [Hash{Class => Boolean}] what each question (IsCreated, …) is answered
  def order(action, machine, answers)
    env = { machine: machine, action_name: :"machine_action_#{action}", raw_action_name: action }
    builder = provider.public_send(:"action_#{action}")
    expand(builder, env, answers, primary: true)
  end

  def expand(builder, env, answers, primary: false)
    builder = builder.dup
    builder.primary = primary
    builder.apply_action_name(env)
    builder.stack.flat_map do |item|
      next [item.middleware] unless item.middleware == Vagrant::Action::Builtin::Call

      question = item.arguments.parameters.first
      nested = Vagrant::Action::Builder.new
      item.arguments.block.call(env.merge(result: answers.fetch(question, false)), nested)
      [question] + expand(nested, env, answers)
    end
  end

  def positions(order, *classes)
    classes.map { |klass| order.index(klass) || raise("no #{klass} in #{order}") }
  end

  it 'writes a new machine before it starts, around what makes its NICs' do
    order = order(:up, machine('config.hybrid.network "hybrid"'), {})
    places = positions(order, provider::CreateDomain, provider::CreateNetworks, ours::AddNetworks,
                       provider::CreateNetworkInterfaces, ours::DefineDomain, provider::StartDomain,
                       provider::WaitTillUp)
    expect(places).to eq(places.sort)
    expect(order.index(ours::DefineDomain) + 1).to eq(order.index(provider::StartDomain))
    expect(order.count(ours::DefineDomain)).to eq(1)
  end

  it 'provisions after all of that' do
    order = order(:up, machine('config.hybrid.network "hybrid"'), {})
    # Provision calls what follows first, so it is before what it waits for.
    provision, *rest = positions(order, Vagrant::Action::Builtin::Provision, ours::AddNetworks, ours::DefineDomain)
    expect(rest).to all(be > provision)
  end

  it 'asks the host before the configuration is validated' do
    [[:up, {}], [:reload, {}]].each do |action, answers|
      order = order(action, machine('config.hybrid.network "hybrid"'), answers)
      expect(order.index(ours::AskHost) + 1).to eq(order.index(Vagrant::Action::Builtin::ConfigValidate))
    end
    %i[halt destroy suspend].each do |action|
      expect(order(action, machine('config.hybrid.network "hybrid"'), {})).not_to include(ours::AskHost)
    end
  end

  {
    'a halted machine that is brought up' => [:up, %i[IsCreated], :DefineDomain, :StartDomain],
    'a reload' => [:reload, %i[IsCreated], :DefineDomain, :StartDomain],
    'a machine without a box' => [:up, %i[IsCreated], :DefineDomain, :StartDomain],
    'a suspended machine that is brought up' => [:up, %i[IsCreated IsSuspended], :TellPending, :ResumeDomain],
    'a resume' => [:resume, %i[IsCreated IsSuspended], :TellPending, :ResumeDomain],
    'a restored snapshot' => [:snapshot_restore, %i[IsCreated], :TellRestored, :SnapshotRestore],
    'a destroy' => [:destroy, %i[IsCreated DestroyConfirm], :AwaitRelease, :DestroyDomain]
  }.each do |what, (action, yes, before, target)|
    it "hooks #{what}" do
      answers = yes.to_h { |name| [provider.const_get(name), true] }
      order = order(action, machine('config.hybrid.network "hybrid"'), answers)
      expect(order.index(ours.const_get(before)) + 1).to eq(order.index(provider.const_get(target)))
    end
  end

  it 'warns on up of any provider first of all' do
    expect(order(:up, machine('config.hybrid.network "hybrid"'), {}).first).to eq(ours::WarnProvider)
  end
end
