# frozen_string_literal: true

RSpec.describe VagrantPlugins::Hybrid::DockerWish do
  def wishes(text)
    machine(text).config.hybrid.wishes
  end

  def problems(text, **options)
    validate(machine(text), **options)
  end

  it 'asks for the network that follows it, with the options of any other' do
    wish = wishes('config.hybrid.docker_network "shop_default", ip: "172.30.0.200", hostname: "db"').first
    expect(wish.problems).to eq([])
    expect(wish.attributes('52:54:00:00:00:02'))
      .to eq('name' => 'shop-default', 'docker' => 'shop_default', 'mac' => '52:54:00:00:00:02',
             'ip' => '172.30.0.200', 'hostname' => 'db')
    expect(wish.attributes('m').keys.first(2)).to eq(%w[name docker])
  end

  it 'names it as hybrid-hook does' do
    names = { 'My.Shop_1-' => 'my-shop-1', "#{'a' * 31}_x" => 'a' * 31 }
    expect(names.keys.map { |name| described_class.network(name) }).to eq(names.values)
  end

  it 'is merged, the innermost option winning' do
    machine = machine(<<~RUBY, name: :db)
      config.hybrid.docker_network "shop_default", hostname: "outer", groups: ["all"]
      config.vm.define("db") { |db| db.hybrid.docker_network "shop_default", hostname: "db" }
    RUBY
    expect(machine.config.hybrid.wishes.map { |wish| [wish.docker, wish.options] })
      .to eq([['shop_default', { hostname: 'db', groups: ['all'] }]])
  end

  it 'stands beside networks' do
    list = wishes('config.hybrid.network "hybrid"; config.hybrid.docker_network "shop_default"')
    expect(list.map { |wish| [wish.name, wish.docker] }).to eq([['hybrid', nil], %w[shop-default shop_default]])
  end

  {
    'config.hybrid.docker_network' => 'docker_network needs a name',
    'config.hybrid.docker_network nil' => 'Docker network name nil is nil',
    'config.hybrid.docker_network 1' => 'must be a String, not Integer',
    'config.hybrid.docker_network ""' => 'is empty',
    'config.hybrid.docker_network "../x"' => 'may hold only letters',
    'config.hybrid.docker_network "$(id)"' => 'may hold only letters',
    'config.hybrid.docker_network "shop".encode("UTF-16LE"); config.hybrid.network "shop"' => 'is no valid text',
    'config.hybrid.docker_network "日本"' => 'may hold only letters',
    'config.hybrid.docker_network "a"*129' => 'has more than 128 characters',
    'config.hybrid.docker_network "shop_default", "x"' => 'docker_network takes a name and options',
    'config.hybrid.docker_network "shop_default", containers: "name=web"' => 'its project says who is on it',
    'config.hybrid.docker_network "shop_default", hostnam: "db"' => 'did you mean hostname?',
    'config.hybrid.docker_network "shop_default"; config.hybrid.network "shop-default"' => 'name one of the two'
  }.each do |text, message|
    it "refuses #{text}" do
      expect(problems(text)).to match([include(message)])
    end
  end

  describe 'on this host' do
    before { install_hybrid_hook }

    let(:text) { 'config.hybrid.docker_network "shop_default", ip: "10.0.1.200"' }

    it 'is fine where it is followed' do
      publish('shop-default', docker_network: 'shop_default')
      expect(problems(text, ask_host: true)).to eq([])
    end

    it 'names the command that follows it' do
      expect(problems(text, ask_host: true))
        .to match([include('Docker network "shop_default": is not there',
                           'sudo hybrid-hook network follow shop_default')])
    end

    it 'is not taken for another of that name' do
      publish('shop-default', docker_network: 'shop.default')
      expect(problems(text, ask_host: true)).to match([include('"shop.default"')])
    end

    it 'names the network that is on it under another name' do
      publish('shop2', docker_network: 'shop_default')
      # Another's fault is none of ours.
      publish('a', format: 2)
      line = include('Docker network "shop_default": is that of network shop2; write config.hybrid.network "shop2"')
      expect(problems(text, ask_host: true)).to match([line])
      publish('shop-default', docker_network: 'shop.default')
      expect(problems(text, ask_host: true)).to match([line])
    end

    it 'is not taken for what Docker has of our own network' do
      publish
      expect(problems('config.hybrid.docker_network "hybrid-net"', ask_host: true))
        .to match([include('write config.hybrid.network "hybrid"')])
    end

    it 'refuses an address of Docker\'s' do
      publish('shop-default', docker_network: 'shop_default')
      expect(problems(text.sub('.200', '.64'), ask_host: true)).to match([include('is in the container pool')])
    end
  end
end
